// main() of all tests. The graph is checked behind each pass. LibTorch's generator starts every test with one seed, so
// that a test gives the same numbers whether it runs alone or behind others; a failure prints the seed.
#include <ATen/Context.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>

#include "passes/run.h"

namespace {

class Seed : public testing::EmptyTestEventListener {
 public:
  explicit Seed(uint64_t seed) : seed_(seed) {}
  void OnTestStart(const testing::TestInfo&) override { at::manual_seed(seed_); }
  void OnTestEnd(const testing::TestInfo& test) override {
    if (test.result()->Failed()) std::cout << "random numbers: ESPQ_TEST_SEED=" << seed_ << std::endl;
  }

 private:
  uint64_t seed_;
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  espq::set_verify_passes(true);
  const char* seed = std::getenv("ESPQ_TEST_SEED");
  testing::UnitTest::GetInstance()->listeners().Append(new Seed(seed ? std::strtoull(seed, nullptr, 10) : 1));
  return RUN_ALL_TESTS();
}
