#include <numeric>

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
struct Term {
  std::string letters;
  Variable* value;
  Shape shape;

  int64_t size(char letter) const { return shape[letters.find(letter)]; }
  bool has(char letter) const { return letters.find(letter) != std::string::npos; }
};

Term reorder(const Call& call, Term term, const std::string& letters) {
  if (term.letters == letters) return term;
  Integers order;
  Shape shape;
  for (const char letter : letters) {
    order.push_back(static_cast<int64_t>(term.letters.find(letter)));
    shape.push_back(term.size(letter));
  }
  return {letters, call.transpose(term.value, order), shape};
}

Term sum_out(const Call& call, Term term, const std::string& kept) {
  Integers axes;
  Term result{"", term.value, {}};
  for (size_t i = 0; i < term.letters.size(); ++i) {
    if (kept.find(term.letters[i]) == std::string::npos) {
      axes.push_back(static_cast<int64_t>(i));
    } else {
      result.letters += term.letters[i];
      result.shape.push_back(term.shape[i]);
    }
  }
  if (!axes.empty())
    result.value = call.emit("ReduceSum", {term.value, call.parameter("axes", axes)}, {{"keepdims", int64_t{0}}});
  return result;
}

int64_t product(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
}

/// Two terms become one MatMul: [batch, rows, summed] x [batch, summed, columns].
Term contract(const Call& call, Term a, Term b, const std::string& kept) {
  std::string batch, rows, summed, columns;
  for (const char letter : a.letters)
    (!b.has(letter) ? rows : kept.find(letter) != std::string::npos ? batch : summed) += letter;
  for (const char letter : b.letters)
    if (!a.has(letter)) columns += letter;
  a = reorder(call, std::move(a), batch + rows + summed);
  b = reorder(call, std::move(b), batch + summed + columns);
  const auto sizes = [](const Term& term, const std::string& letters) {
    Shape shape;
    for (const char letter : letters) shape.push_back(term.size(letter));
    return shape;
  };
  const Shape batches = sizes(a, batch), row = sizes(a, rows), sum = sizes(a, summed), column = sizes(b, columns);
  const auto flat = [&](const Shape& left, const Shape& right) {
    Shape shape = batches;
    shape.push_back(product(left));
    shape.push_back(product(right));
    return shape;
  };
  const auto reshaped = [&](Variable* value, const Shape& from, const Shape& to) {
    return from == to ? value : call.reshape(value, to);
  };
  Variable* value =
      call.emit("MatMul", {reshaped(a.value, a.shape, flat(row, sum)), reshaped(b.value, b.shape, flat(sum, column))});
  Shape full = batches;
  full.insert(full.end(), row.begin(), row.end());
  full.insert(full.end(), column.begin(), column.end());
  return {batch + rows + columns, reshaped(value, flat(row, column), full), full};
}

void einsum(Call& call) {
  std::string equation = call.text("equation");
  std::erase(equation, ' ');
  call.check(equation.find('.') == std::string::npos, "'{}': '...' is not supported", equation);
  const size_t arrow = equation.find("->");
  call.check(arrow != std::string::npos, "'{}': give the output explicitly with '->'", equation);
  const std::string result = equation.substr(arrow + 2);
  std::vector<Term> terms;
  std::string rest = equation.substr(0, arrow) + ",";
  for (const at::Tensor& operand : call.samples("tensors")) {
    const size_t comma = rest.find(',');
    terms.push_back({rest.substr(0, comma), call.as(operand, call.output_dtype()), operand.sizes().vec()});
    rest = rest.substr(comma + 1);
    std::string letters = terms.back().letters;
    std::sort(letters.begin(), letters.end());
    call.check(std::adjacent_find(letters.begin(), letters.end()) == letters.end(),
               "'{}': a letter stands twice in one operand (a diagonal)", equation);
  }
  while (terms.size() > 1) {
    Term a = std::move(terms[0]), b = std::move(terms[1]);
    terms.erase(terms.begin(), terms.begin() + 2);
    std::string later = result;
    for (const Term& term : terms) later += term.letters;
    a = sum_out(call, std::move(a), later + b.letters);
    b = sum_out(call, std::move(b), later + a.letters);
    terms.insert(terms.begin(), contract(call, std::move(a), std::move(b), later));
  }
  Term term = sum_out(call, std::move(terms.at(0)), result);
  call.result(reorder(call, std::move(term), result).value);
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
