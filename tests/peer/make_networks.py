#!/usr/bin/env python3
"""Make TorchScript and torch.export files of many families of networks, random weights, small inputs, for check_networks.py.

usage: make_networks.py OUT_DIR [NAME ...] [--list]
Needs torch, torchvision, timm, ultralytics and torchaudio that fit each other; what is not installed is left out and said so.
Seeded. Batch normalization takes its statistics from drawn pictures, so that signals keep their size through deep networks.
OUT_DIR/networks.json lists what was made. Every third network is written with torch.export (.pt2), the others with torch.jit.trace.
"""
import argparse, importlib.metadata, importlib.util, json, pathlib, sys, warnings
import torch
from torch import nn

warnings.filterwarnings('ignore')
NETWORKS = {}


def without_own_operators():
    """torchvision's own operators come in a library for CUDA that does not load beside a torch for CPUs. None of the networks needs one,
    but importing the package names these."""
    try: import torchvision  # noqa: F401
    except RuntimeError:
        for module in [m for m in sys.modules if m.startswith('torchvision')]: del sys.modules[module]
        library = torch.library.Library('torchvision', 'DEF')
        for name in ('nms', 'qnms'): library.define(f'{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
        return library
    except ImportError: pass


def network(name, source, shape, make): NETWORKS[name] = {'source': source, 'shape': shape, 'make': make}


class Part(nn.Module):
    """An entry of a dictionary, or the first elements, of what a network returns."""
    def __init__(self, inner, key): super().__init__(); self.inner, self.key = inner, key
    def forward(self, x): return self.inner(x)[self.key]


# torchvision -------------------------------------------------------------------------------------------------------------------
def torchvision_networks():
    from torchvision import models
    def add(name, side=64, make=None, **arguments):
        network(f'tv_{name}', 'torchvision', [1, 3, side, side],
                make or (lambda: getattr(models, name)(weights=None, num_classes=arguments.pop('num_classes', 10), **arguments)))
    for name in ['resnet18', 'resnext50_32x4d', 'densenet121', 'mobilenet_v2', 'mobilenet_v3_small', 'shufflenet_v2_x0_5', 'squeezenet1_1',
                 'mnasnet0_5', 'efficientnet_b0', 'regnet_y_400mf', 'regnet_x_400mf', 'convnext_tiny', 'swin_t']:
        add(name)
    add('googlenet', aux_logits=False, init_weights=False)
    add('inception_v3', side=96, aux_logits=False, init_weights=False)
    add('vgg11_bn', make=lambda: nn.Sequential(models.vgg11_bn(weights=None).features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10)))
    add('alexnet', make=lambda: nn.Sequential(models.alexnet(weights=None).features, nn.AdaptiveAvgPool2d(6), nn.Flatten(), nn.Linear(9216, 10)))
    add('vit', make=lambda: models.VisionTransformer(image_size=64, patch_size=16, num_layers=4, num_heads=4, hidden_dim=128, mlp_dim=256, num_classes=10))
    add('maxvit', make=lambda: models.MaxVit(input_size=(64, 64), stem_channels=16, partition_size=2, block_channels=[16, 32, 48, 64],
                                             block_layers=[1, 1, 1, 1], head_dim=16, stochastic_depth_prob=0., num_classes=10))
    add('lraspp_mobilenet_v3_large', side=96,
        make=lambda: Part(models.segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5), 'out'))
    add('deeplabv3_mobilenet_v3_large', side=96,
        make=lambda: Part(models.segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5), 'out'))


# timm --------------------------------------------------------------------------------------------------------------------------
TIMM = {64: '''lcnet_050 tinynet_e mobilenetv4_conv_small_050 mobilenetv3_small_050 ghostnet_050 ghostnetv2_100 repghostnet_050 fbnetc_100
               hardcorenas_a mixnet_s mobileone_s0 repvgg_a0 rexnet_100 semnasnet_075 spnasnet_100 ese_vovnet19b_dw hrnet_w18_small
               resnest14d skresnet18 nf_regnet_b0 gernet_s dla46_c dpn48b cs3darknet_focus_s fasternet_t0 starnet_s1 repvit_m0_9 fastvit_t8
               efficientnet_lite0 tf_efficientnet_b0 tf_mobilenetv3_small_minimal_100 poolformer_s12 convnext_atto convnextv2_atto
               edgenext_xx_small inception_next_atto mambaout_femto mobilevit_xxs mobilevitv2_050 efficientvit_b0 res2net50_26w_4s eca_resnet33ts
               halo2botnet50ts_256 lambda_resnet26t regnetz_005 swiftformer_xs lamhalobotnet50ts_256 resnet10t pvt_v2_b0 mobilenet_edgetpu_v2_xs''',
        224: 'levit_128s efficientformer_l1 tiny_vit_5m_224 efficientvit_m0 deit_tiny_patch16_224 xcit_nano_12_p16_224 pit_ti_224 gmlp_ti16_224 '
             'visformer_tiny coat_lite_tiny resmlp_12_224 eva02_tiny_patch14_224 cait_xxs24_224 convmixer_768_32 bat_resnext26ts shvit_s1'}


def timm_networks():
    import timm
    def make(name, side):
        if name.startswith(('deit', 'resmlp', 'gmlp', 'cait', 'xcit', 'coat')): return lambda: timm.create_model(name, num_classes=10, img_size=side)
        return lambda: timm.create_model(name, num_classes=10)
    for default, names in TIMM.items():
        for name in names.split():
            side = 64 if default == 64 else 96 if name.startswith(('deit', 'resmlp', 'gmlp', 'cait', 'xcit', 'shvit')) else 224
            if name.startswith(('convmixer', 'coat_lite', 'bat_')): side = 64
            if name.startswith(('halo2', 'lamhalo')): side = 256
            network(f'timm_{name}', 'timm', [1, 3, side, side], make(name, side))


# ultralytics -------------------------------------------------------------------------------------------------------------------
def ultralytics_networks():
    from ultralytics import YOLO
    def make(name):
        def build():
            model = YOLO(f'{name}.yaml').model
            head = model.model[-1]
            if hasattr(head, 'export'): head.export, head.format, head.dynamic = True, 'torchscript', False
            return model
        return build
    for name in ['yolov3-tiny', 'yolov5n', 'yolov6n', 'yolov8n', 'yolov9t', 'yolov10n', 'yolo11n', 'yolo12n', 'yolo26n', 'yolov8n-seg', 'yolo11n-pose',
                 'yolo11n-obb', 'yolo11n-cls', 'yolov8n-ghost', 'yolov8n-p6']:
        network(f'ultralytics_{name}', 'ultralytics', [1, 3, 128, 128], make(name))


# audio -------------------------------------------------------------------------------------------------------------------------
def torchaudio_networks():
    from torchaudio import models
    network('ta_wav2letter', 'torchaudio', [1, 1, 4000], lambda: models.Wav2Letter(num_classes=20, input_type='waveform', num_features=1))
    network('ta_deepspeech', 'torchaudio', [1, 1, 20, 40], lambda: models.DeepSpeech(n_feature=40, n_hidden=64, n_class=20))
    network('ta_conv_tasnet', 'torchaudio', [1, 1, 2000],
            lambda: models.ConvTasNet(num_sources=2, enc_kernel_size=16, enc_num_feats=32, msk_num_feats=16, msk_num_hidden_feats=32,
                                      msk_num_layers=4, msk_num_stacks=2))
    class Conformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = models.Conformer(input_dim=32, num_heads=4, ffn_dim=64, num_layers=2, depthwise_conv_kernel_size=15)
        def forward(self, x): return self.inner(x, torch.tensor([x.shape[1]]))[0]
    network('ta_conformer', 'torchaudio', [1, 24, 32], Conformer)
    class Wav2Vec(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = models.wav2vec2_model(
                extractor_mode='group_norm', extractor_conv_layer_config=[(32, 10, 5), (32, 3, 2), (32, 3, 2)], extractor_conv_bias=False,
                encoder_embed_dim=32, encoder_projection_dropout=0., encoder_pos_conv_kernel=16, encoder_pos_conv_groups=4, encoder_num_layers=2,
                encoder_num_heads=4, encoder_attention_dropout=0., encoder_ff_interm_features=64, encoder_ff_interm_dropout=0.,
                encoder_dropout=0., encoder_layer_norm_first=False, encoder_layer_drop=0., aux_num_out=20)
        def forward(self, x): return self.inner(x)[0]
    network('ta_wav2vec2', 'torchaudio', [1, 2000], Wav2Vec)


def audio_networks():
    """Forms of the literature on small speech networks: figures only, written here."""
    def separable(channels, stride=1):
        return nn.Sequential(nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
                             nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU())
    network('audio_ds_cnn', 'audio', [1, 1, 49, 10], lambda: nn.Sequential(
        nn.Conv2d(1, 64, (10, 4), 2, (5, 1), bias=False), nn.BatchNorm2d(64), nn.ReLU(), *[separable(64) for _ in range(4)],
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(64, 12)))

    class Temporal(nn.Module):
        def __init__(self, before, after, stride):
            super().__init__()
            self.main = nn.Sequential(nn.Conv1d(before, after, 9, stride, 4, bias=False), nn.BatchNorm1d(after), nn.ReLU(),
                                      nn.Conv1d(after, after, 9, 1, 4, bias=False), nn.BatchNorm1d(after))
            self.side = nn.Sequential(nn.Conv1d(before, after, 1, stride, bias=False), nn.BatchNorm1d(after)) if stride > 1 else nn.Identity()
        def forward(self, x): return torch.relu(self.main(x) + self.side(x))
    network('audio_tc_resnet', 'audio', [1, 40, 98], lambda: nn.Sequential(
        nn.Conv1d(40, 16, 3, padding=1, bias=False), Temporal(16, 24, 2), Temporal(24, 32, 2), Temporal(32, 48, 2), nn.AdaptiveAvgPool1d(1),
        nn.Flatten(), nn.Linear(48, 12)))

    class Broadcasted(nn.Module):
        """A block whose frequency mean goes through a temporal part and is broadcast back."""
        def __init__(self, channels):
            super().__init__()
            self.frequency = nn.Sequential(nn.Conv2d(channels, channels, (3, 1), padding=(1, 0), groups=channels, bias=False), nn.BatchNorm2d(channels))
            self.temporal = nn.Sequential(nn.Conv2d(channels, channels, (1, 3), padding=(0, 1), groups=channels, bias=False), nn.BatchNorm2d(channels),
                                          nn.SiLU(), nn.Conv2d(channels, channels, 1, bias=False))
        def forward(self, x):
            f = self.frequency(x)
            return torch.relu(x + f + self.temporal(f.mean(2, keepdim=True)))
    network('audio_bc_resnet', 'audio', [1, 1, 40, 60], lambda: nn.Sequential(
        nn.Conv2d(1, 16, 5, (2, 1), 2, bias=False), nn.BatchNorm2d(16), nn.ReLU(), Broadcasted(16), Broadcasted(16),
        nn.Conv2d(16, 24, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 12)))

    network('audio_m5', 'audio', [1, 1, 4000], lambda: nn.Sequential(
        nn.Conv1d(1, 32, 80, 16), nn.BatchNorm1d(32), nn.ReLU(), nn.MaxPool1d(4), nn.Conv1d(32, 32, 3), nn.BatchNorm1d(32), nn.ReLU(), nn.MaxPool1d(4),
        nn.Conv1d(32, 64, 3), nn.BatchNorm1d(64), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 35), nn.LogSoftmax(1)))

    class Recurrent(nn.Module):
        """Convolutions, a recurrent layer over time, a classifier on the last step."""
        def __init__(self, cell, **arguments):
            super().__init__()
            self.front = nn.Sequential(nn.Conv2d(1, 8, 3, (2, 2), 1), nn.ReLU(), nn.Conv2d(8, 8, 3, (2, 2), 1), nn.ReLU())
            self.cell = cell(80, 32, batch_first=True, **arguments)
            self.head = nn.Linear(64 if arguments.get('bidirectional') else 32, 12)
        def forward(self, x):
            y = self.front(x).permute(0, 3, 1, 2).flatten(2)
            return self.head(self.cell(y)[0][:, -1])
    network('audio_crnn_gru', 'audio', [1, 1, 40, 40], lambda: Recurrent(nn.GRU))
    network('audio_crnn_lstm_bidirectional', 'audio', [1, 1, 40, 40], lambda: Recurrent(nn.LSTM, bidirectional=True))
    network('audio_crnn_rnn', 'audio', [1, 1, 40, 40], lambda: Recurrent(nn.RNN))

    class Attention(nn.Module):
        """Keyword transformer: a patch is a time step; a class token, post-norm encoder layers."""
        def __init__(self):
            super().__init__()
            self.enter = nn.Linear(40, 64)
            self.token = nn.Parameter(torch.randn(1, 1, 64) * 0.1)
            self.position = nn.Parameter(torch.randn(1, 50, 64) * 0.1)
            self.layers = nn.ModuleList([nn.TransformerEncoderLayer(64, 4, 128, dropout=0., activation='gelu', batch_first=True) for _ in range(2)])
            self.head = nn.Linear(64, 12)
        def forward(self, x):
            y = torch.cat([self.token.expand(x.shape[0], -1, -1), self.enter(x)], 1) + self.position
            for layer in self.layers: y = layer(y)
            return self.head(y[:, 0])
    network('audio_kwt', 'audio', [1, 49, 40], Attention)


def settle(model, shape):
    """Statistics of batch normalization from drawn batches, then evaluation mode."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if norms:
        for m in norms: m.momentum = None; m.reset_running_stats()
        model.eval()
        for m in norms: m.train()
        with torch.no_grad(): model(torch.randn(4, *shape[1:]))
    return model.eval()


def write(name, folder, exported):
    entry = NETWORKS[name]
    torch.manual_seed(0)
    model = settle(entry['make'](), entry['shape']).float()
    for parameter in model.parameters(): parameter.requires_grad_(False)
    example = torch.randn(entry['shape'])
    with torch.no_grad():
        model(example)
        file = f'{name}.pt2' if exported else f'{name}.pt'
        if exported:
            program = torch.export.export(model, (example,), strict=False)
            torch.export.save(program, folder / file)
            argument = program.graph_signature.user_inputs[0]
        else:
            traced = torch.jit.trace(model, example, check_trace=False)
            traced.save(str(folder / file))
            argument = list(traced.graph.inputs())[1].debugName().split('.')[0]
    shape = 'x'.join(map(str, entry['shape']))
    return {'name': file, 'source': entry['source'], 'model': file, 'batches': 2, 'inputs': {argument: {'shape': entry['shape']}},
            'arguments': [] if exported else ['--input-shape', f'{argument}={shape}']}


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', type=pathlib.Path); parser.add_argument('names', nargs='*'); parser.add_argument('--list', action='store_true')
    arguments = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    library = without_own_operators()  # kept alive
    for add in (audio_networks, torchvision_networks, timm_networks, ultralytics_networks, torchaudio_networks):
        try: add()
        except (ImportError, OSError) as error: print(f'left out: {add.__name__}: {error}', file=sys.stderr)
    if arguments.list: print(*NETWORKS, sep='\n'); sys.exit()
    arguments.out.mkdir(parents=True, exist_ok=True)
    index = arguments.out / 'networks.json'
    made = {e['name']: e for e in json.loads(index.read_text())} if index.exists() else {}
    failed = []
    for position, name in enumerate(NETWORKS):
        if arguments.names and name not in arguments.names: continue
        exported = position % 3 == 2
        if (f'{name}.pt2' if exported else f'{name}.pt') in made and not arguments.names: continue
        try: entry = write(name, arguments.out, exported)
        except Exception as error:
            failed.append(name)
            print(f'{name}: {type(error).__name__}: {error}'.splitlines()[0], file=sys.stderr, flush=True)
            continue
        made[entry['name']] = entry
        index.write_text(json.dumps(list(made.values()), indent=1))
        print(entry['name'], flush=True)
    packages = [p for p in ('torch', 'torchvision', 'timm', 'ultralytics', 'torchaudio')]
    (arguments.out / 'versions.json').write_text(json.dumps({p: importlib.metadata.version(p) for p in packages
                                                             if importlib.util.find_spec(p)}))
    if failed: sys.exit(f'{len(failed)} networks were not made: {" ".join(failed)}')
