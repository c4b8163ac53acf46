#pragma once

namespace espq::samples {

/// The program behind yolo_qat and yolo_pose_qat: a float YOLO network is quantized, fine-tuned with simulated rounding
/// and written for the chip. Returns the exit code. docs/yolo.md explains the options.
int run_yolo_qat(int argc, char** argv, bool pose);

}  // namespace espq::samples
