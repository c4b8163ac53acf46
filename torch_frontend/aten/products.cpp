#include <numeric>

#include "core/graph/einsum.h"
#include "torch_frontend/aten/families.h"

namespace espq::torch_frontend {
namespace {

using Integers = Call::Integers;

Integers swapped_last(int64_t rank) {
  Integers order(static_cast<size_t>(rank));
  std::iota(order.begin(), order.end(), 0);
  std::swap(order[order.size() - 1], order[order.size() - 2]);
  return order;
}

/// Two dimensions become Gemm, all others MatMul with the transposed weight and an addition.
void linear(Call& call) {
  Variable* bias = call.tensor("bias");
  Variable* input = call.tensor("input");
  if (call.rank("input") == 2 && call.rank("weight") == 2) {
    Call::Variables operands{input, call.tensor("weight")};
    if (bias) operands.push_back(bias);
    // Factors are spelled out, as PyTorch's ONNX exporter does: both ways give equal files.
    return call.result("Gemm", operands, {{"alpha", 1.0f}, {"beta", 1.0f}, {"transB", int64_t{1}}});
  }
  Variable* weight = call.is_constant("weight")
                         ? call.parameter("weight", call.sample("weight").t())
                         : call.transpose(call.tensor("weight"), swapped_last(call.rank("weight")));
  Variable* product = call.emit("MatMul", {input, weight});
  call.result(bias ? call.emit("Add", {bias, product}) : product);
}

/// mm, bmm, matmul, mv, dot, vdot
void matmul(Call& call) {
  for (const auto& [a, b] : {std::pair("self", "other"), {"self", "mat2"}, {"self", "vec"}, {"self", "tensor"}})
    if (call.has(a) && call.has(b)) return call.result("MatMul", {call.tensor(a), call.tensor(b)});
  call.check(false, "its operands are unknown");
}

Variable* scaled(const Call& call, Variable* value, std::string_view factor) {
  const double number = call.number(factor, 1);
  return number == 1 ? value : call.emit("Mul", {value, call.scalar(number)});
}

void addmm(Call& call) {
  call.result("Gemm", {call.tensor("mat1"), call.tensor("mat2"), call.tensor("self")},
              {{"alpha", static_cast<float>(call.number("alpha"))}, {"beta", static_cast<float>(call.number("beta"))}});
}

/// addmv, baddbmm
void add_product(Call& call) {
  const bool vector = call.has("vec");
  Variable* product =
      call.emit("MatMul", {call.tensor(vector ? "mat" : "batch1"), call.tensor(vector ? "vec" : "batch2")});
  product = scaled(call, product, "alpha");
  if (call.number("beta") == 0) return call.result(product);
  call.result("Add", {scaled(call, call.tensor("self"), "beta"), product});
}

void outer(Call& call) {
  call.result("Mul", {call.unsqueeze(call.tensor("self"), {1}), call.unsqueeze(call.tensor("vec2"), {0})});
}

// ------------------------------------------------------------------------------------------------------ einsum
class CallWriter : public OperationWriter {
 public:
  explicit CallWriter(const Call& call) : call_(call) {}
  Variable* emit(const std::string& type, std::vector<Variable*> inputs, AttributeMap attributes) override {
    return call_.emit(type, std::move(inputs), std::move(attributes));
  }
  Variable* integers(const std::string& part, const Integers& values) override { return call_.parameter(part, values); }

 private:
  const Call& call_;
};

void einsum(Call& call) {
  std::vector<EinsumOperand> operands;
  for (const at::Tensor& operand : call.samples("tensors"))
    operands.push_back({call.as(operand, call.output_dtype()), operand.sizes().vec()});
  CallWriter writer(call);
  call.result(write_einsum(call.text("equation"), operands, writer));
}

/// Every element of one with every element of the other.
void kron(Call& call) {
  Shape a = call.shape("self"), b = call.shape("other"), left, right;
  while (a.size() < b.size()) a.insert(a.begin(), 1);
  while (b.size() < a.size()) b.insert(b.begin(), 1);
  for (size_t axis = 0; axis < a.size(); ++axis) {
    left.insert(left.end(), {a[axis], 1});
    right.insert(right.end(), {1, b[axis]});
  }
  const at::ScalarType dtype = call.output_dtype();
  Variable* product = call.emit(
      "Mul", {call.reshape(call.tensor_as("self", dtype), left), call.reshape(call.tensor_as("other", dtype), right)});
  call.result(call.reshape(product, call.output_shape()));
}

/// x1 W x2 for every matrix of the weight.
void bilinear(Call& call) {
  const at::Tensor weight = call.constant("weight");  // [out, in1, in2]
  Shape inner = call.output_shape(), row = inner;
  inner.push_back(weight.size(2));
  row.back() = 1;
  row.push_back(weight.size(2));
  Variable* matrix = call.parameter("weight", weight.permute({1, 0, 2}).reshape({weight.size(1), -1}));
  Variable* first = call.reshape(call.emit("MatMul", {call.tensor("input1"), matrix}), inner);
  Variable* product = call.emit("Mul", {first, call.reshape(call.tensor("input2"), row)});
  Variable* sum =
      call.emit("ReduceSum", {product, call.parameter("axes", Call::Integers{-1})}, {{"keepdims", int64_t{0}}});
  call.result(call.has("bias") ? call.emit("Add", {sum, call.tensor("bias")}) : sum);
}

/// Distances of all pairs of rows.
void cdist(Call& call) {
  call.check(call.number("p") == 2, "has the norm {}; espq has the one of 2", call.number("p"));
  Shape a = call.shape("x1"), b = call.shape("x2");
  a.insert(a.end() - 1, 1);
  b.insert(b.end() - 2, 1);
  Variable* difference = call.emit("Sub", {call.reshape(call.tensor("x1"), a), call.reshape(call.tensor("x2"), b)});
  Variable* sum =
      call.emit("ReduceSum", {call.emit("Mul", {difference, difference}), call.parameter("axes", Call::Integers{-1})},
                {{"keepdims", int64_t{0}}});
  call.result("Sqrt", {sum});
}

}  // namespace

void add_products(Table& table) {
  table["linear"] = {linear, Family::Product};
  for (const char* name : {"matmul", "mm", "bmm", "mv", "dot", "vdot"}) table[name] = {matmul, Family::Product};
  table["addmm"] = {addmm, Family::Product};
  for (const char* name : {"baddbmm", "addmv"}) table[name] = {add_product, Family::Product};
  for (const char* name : {"outer", "ger"}) table[name] = {outer, Family::Arithmetic};
  table["kron"] = {kron, Family::Arithmetic};
  table["bilinear"] = {bilinear, Family::Product};
  for (const char* name : {"cdist", "_cdist_forward"}) table[name] = {cdist, Family::Product};
  table["einsum"] = {einsum, Family::Product};
}

}  // namespace espq::torch_frontend
