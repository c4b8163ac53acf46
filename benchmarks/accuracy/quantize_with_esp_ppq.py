#!/usr/bin/env python3
"""Quantize a network of the zoo with esp-ppq 1.3.12: the other side of run.py.

usage: quantize_with_esp_ppq.py ZOO/NAME TARGET OUT.espdl [--setting default|best] [--steps 500] [--block 4]
`default` is esp-ppq's own. `best` is what its documentation combines where accuracy is short: percentile calibration, layer-wise
equalization, and trained thresholds and weights (TQT) with its default learning rate, steps and blocks (--steps 0: without TQT).
Runs in an environment of its own: pip install esp-ppq==1.3.12.
"""
import argparse, pathlib, shutil, tempfile
import numpy as np, onnx, torch
from esp_ppq import QuantizationSettingFactory
from esp_ppq.api import espdl_quantize_onnx


def chosen(arguments):
    setting = QuantizationSettingFactory.espdl_setting()
    if arguments.setting == 'default': return setting
    setting.quantize_activation_setting.calib_algorithm = 'percentile'
    setting.equalization = True
    setting.equalization_setting.iterations, setting.equalization_setting.value_threshold, setting.equalization_setting.opt_level = 4, .4, 2
    setting.tqt_optimization = arguments.steps > 0
    setting.tqt_optimization_setting.steps, setting.tqt_optimization_setting.block_size = arguments.steps, arguments.block
    return setting


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('network', type=pathlib.Path); parser.add_argument('target'); parser.add_argument('out')
    parser.add_argument('--setting', choices=['default', 'best'], default='default')
    parser.add_argument('--steps', type=int, default=500); parser.add_argument('--block', type=int, default=4)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    batches = [torch.from_numpy(np.load(file)) for file in sorted((arguments.network / 'calib').glob('*.npy'))]
    with tempfile.TemporaryDirectory() as own:    # esp-ppq writes its simplified network over the one that it reads
        model = shutil.copy(arguments.network / 'model.onnx', own)
        espdl_quantize_onnx(onnx_import_file=model, espdl_export_file=arguments.out, calib_dataloader=batches,
                            calib_steps=len(batches), input_shape=list(batches[0].shape), inputs=[batches[0]], collate_fn=lambda batch: batch,
                            target=arguments.target, num_of_bits=8, device='cpu', error_report=False, setting=chosen(arguments),
                            export_test_values=False, verbose=0)
