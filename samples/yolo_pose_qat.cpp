// Quantization-aware fine-tuning of a YOLO11 pose network.
#include "samples/yolo.h"

int main(int argc, char** argv) { return espq::samples::run_yolo_qat(argc, argv, true); }
