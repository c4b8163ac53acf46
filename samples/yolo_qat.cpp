// Quantization-aware fine-tuning of a YOLO11 detector.
#include "samples/yolo.h"

int main(int argc, char** argv) { return espq::samples::run_yolo_qat(argc, argv, false); }
