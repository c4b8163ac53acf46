// What the float kernels say about operands and attributes that do not fit: every message names the operation.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/ops/node_run.h"
#include "tests/user_error.h"

namespace espq {
namespace {

using ::testing::HasSubstr;

at::Tensor data(const Shape& shape) { return at::ones(shape); }
at::Tensor integers(const std::vector<int64_t>& values) { return at::tensor(values, at::kLong); }
std::string text(const char* value) { return value; }

struct Mistake {
  const char* type;
  Tensors operands;
  AttributeMap attributes;
  const char* message;
};

std::vector<Mistake> window_mistakes() {
  return {
      {"Conv", {data({1, 3, 4, 4}), data({2, 4, 1, 1})}, {}, "3 input channels, filters [2, 4, ...] and 1 groups"},
      {"Conv", {data({1, 3, 4, 4}), data({2, 3, 1})}, {}, "filters of 3 dimensions do not fit an input of 4"},
      {"ConvTranspose", {data({1, 3, 4, 4}), data({2, 4, 1, 1})}, {}, "3 input channels do not fit filters with 2"},
      {"MaxPool", {data({1, 2, 4})}, {{"kernel_shape", Shape{2, 2}}}, "2 spatial axes does not fit an input of 3"},
      {"MaxPool",
       {data({1, 2, 4})},
       {{"kernel_shape", Shape{2}}, {"auto_pad", text("SOME")}},
       "unknown auto_pad 'SOME'"},
      {"MaxPool",
       {data({1, 2, 4})},
       {{"kernel_shape", Shape{2}}, {"pads", Shape{1}}},
       "'pads' has 1 entries, 2 are needed"},
      {"Resize", {data({1, 1, 2, 2}), {}, {}, integers({4, 4})}, {}, "2 sizes were given for 4 axes"},
      {"Resize", {data({1, 1, 2, 2}), {}, data({2})}, {}, "needs sizes, or one scale for each of 4 axes"},
      {"Resize",
       {data({1, 1, 2, 2}), {}, {}, integers({1, 1, 4, 4})},
       {{"mode", text("round")}},
       "unknown mode 'round'"},
  };
}

std::vector<Mistake> movement_mistakes() {
  const at::Tensor x = data({2, 3});
  return {
      {"Gemm", {data({2, 3}), data({4, 5})}, {}, "operands of shape [2, 3] and [4, 5] do not fit"},
      {"Softmax", {x}, {{"axis", int64_t{2}}}, "axis 2 is outside a tensor of 2 dimensions"},
      {"ReduceSum", {x, integers({1, -1})}, {}, "axis 1 is given twice"},
      {"Slice", {x, integers({0}), integers({1, 2})}, {}, "starts, ends, axes and steps differ in length"},
      {"Slice", {x, integers({0}), integers({1}), integers({0}), integers({0})}, {}, "a step is 0"},
      {"Pad", {x, integers({0, 1})}, {}, "2 pads were given for 2 axes"},
      {"Pad", {x, integers({0, 0, 1, 1})}, {{"mode", text("mirror")}}, "unknown mode 'mirror'; use constant, reflect"},
      {"Squeeze", {x, integers({1})}, {}, "axis 1 has size 3, only axes of size 1 can go"},
      {"Range", {integers({0})[0], integers({4})[0], integers({0})[0]}, {}, "delta is 0"},
      {"GatherND", {x, integers({0, 0, 0}).reshape({1, 3})}, {}, "indices of 3 entries for 2 axes"},
      {"ScatterND", {x, integers({0, 0, 0}).reshape({1, 3}), x}, {}, "indices of 3 entries for 2 axes"},
      {"ScatterElements",
       {x, integers({0}).reshape({1, 1}), x},
       {{"reduction", text("mean")}},
       "unknown reduction 'mean'"},
      {"ReverseSequence", {x, integers({1, 1})}, {}, "one length per entry of the batch axis"},
      {"ReverseSequence", {x, integers({1, 1, 9})}, {}, "length 9 is outside the time axis of 2"},
      {"QuantizeLinear", {x, data({1, 3})}, {}, "a scale of 2 dimensions needs the attribute block_size"},
      {"LSTM", {data({2, 1, 3}), data({1, 5, 3}), data({1, 8, 2})}, {}, "W must have the shape [1, 8, inputs]"},
      {"Relu", {x}, {{"alpha", 1.0f}}, "unknown attribute 'alpha'"},
  };
}

TEST(OperatorErrors, NameTheOperationAndWhatIsWrong) {
  for (const auto& mistakes : {window_mistakes(), movement_mistakes()})
    for (const Mistake& mistake : mistakes) {
      SCOPED_TRACE(std::string(mistake.type) + ": " + mistake.message);
      const std::string error =
          test::user_error_of([&] { run_node(mistake.type, mistake.operands, mistake.attributes); });
      EXPECT_THAT(error, HasSubstr(mistake.message));
      EXPECT_THAT(error, HasSubstr(std::string("'node' (") + mistake.type + ")"));
    }
}

}  // namespace
}  // namespace espq
