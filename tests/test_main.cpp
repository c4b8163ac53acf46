#include <gmock/gmock.h>

#include "passes/run.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleMock(&argc, argv);
  espq::set_verify_passes(true);
  return RUN_ALL_TESTS();
}
