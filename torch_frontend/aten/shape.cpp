#include <numeric>

#include "torch_frontend/aten/families.h"

namespace espq::torch_frontend {
namespace {

using Integers = Call::Integers;

/// The result is the operand.
void same(Call& call) { call.result(call.tensor(call.has("self") ? "self" : "input")); }

void dropout(Call& call) {
  call.check(!call.flag("train"), "is in training mode: call eval() on the network before exporting it");
  same(call);
}

/// Whatever gives the operand's elements in their order. A size that the program leaves open (-1) stays open, as
/// PyTorch's ONNX exporter leaves it.
void reshape(Call& call) {
  if (call.shape("self") == call.output_shape()) return same(call);
  Shape shape = call.integers(call.has("size") ? "size" : "shape");
  const bool usable = shape.size() == call.output_shape().size() && std::count(shape.begin(), shape.end(), 0) == 0;
  call.result(call.reshape(call.tensor("self"), usable ? shape : call.output_shape()));
}

/// ONNX's Flatten keeps the axes before `start_dim` as one; LibTorch keeps them as they are.
void flatten(Call& call) {
  const int64_t rank = call.rank("self");
  if (rank >= 2 && call.dim("start_dim", rank) == 1 && call.dim("end_dim", rank) == rank - 1 && rank > 2)
    return call.result("Flatten", {call.tensor("self")}, {{"axis", int64_t{1}}});
  reshape(call);
}

void permuted(Call& call, const Integers& order) {
  if (std::is_sorted(order.begin(), order.end())) return same(call);
  call.result(call.transpose(call.tensor("self"), order));
}

Integers identity(int64_t rank) {
  Integers order(static_cast<size_t>(rank));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

void permute(Call& call) { permuted(call, call.dims("dims", call.rank("self"))); }

/// transpose, swapaxes, swapdims
void transpose(Call& call) {
  const int64_t rank = call.rank("self");
  const auto axis = [&](std::initializer_list<std::string_view> names) {
    for (const auto name : names)
      if (call.has(name)) return call.dim(name, rank);
    return int64_t{0};
  };
  Integers order = identity(rank);
  if (rank > 0)
    std::swap(order[static_cast<size_t>(axis({"dim0", "axis0"}))], order[static_cast<size_t>(axis({"dim1", "axis1"}))]);
  permuted(call, order);
}

/// t, mT, numpy_T
void reversed(Call& call) {
  Integers order = identity(call.rank("self"));
  std::reverse(order.begin(), order.end());
  permuted(call, order);
}
void matrix_transpose(Call& call) {
  Integers order = identity(call.rank("self"));
  std::swap(order[order.size() - 1], order[order.size() - 2]);
  permuted(call, order);
}

void movedim(Call& call) {
  const int64_t rank = call.rank("self");
  const Integers from = call.dims("source", rank), to = call.dims("destination", rank);
  Integers order(static_cast<size_t>(rank), -1), rest = identity(rank);
  for (size_t i = 0; i < from.size(); ++i) {
    order[static_cast<size_t>(to[i])] = from[i];
    std::erase(rest, from[i]);
  }
  size_t next = 0;
  for (int64_t& axis : order)
    if (axis < 0) axis = rest[next++];
  permuted(call, order);
}

void squeeze(Call& call) {
  const Shape shape = call.shape("self");
  const int64_t rank = static_cast<int64_t>(shape.size());
  Integers axes = call.has("dim") ? call.dims("dim", rank) : identity(rank);
  std::erase_if(axes, [&](int64_t axis) { return shape.empty() || shape[static_cast<size_t>(axis)] != 1; });
  std::sort(axes.begin(), axes.end());
  if (axes.empty()) return same(call);
  call.result(call.squeeze(call.tensor("self"), axes));
}

void unsqueeze(Call& call) {
  call.result(call.unsqueeze(call.tensor("self"), {call.dim("dim", call.rank("self") + 1)}));
}

/// expand, expand_as, broadcast_to
void expand(Call& call) { call.result(call.expand(call.tensor("self"), call.shape("self"), call.output_shape())); }

/// repeat, tile: counts stand for the last dimensions when there are fewer.
void repeat(Call& call) {
  Integers counts = call.integers(call.has("repeats") ? "repeats" : "dims");
  Shape shape = call.shape("self");
  Variable* value = call.tensor("self");
  if (counts.size() < shape.size()) counts.insert(counts.begin(), shape.size() - counts.size(), 1);
  if (counts.size() > shape.size()) {
    shape.insert(shape.begin(), counts.size() - shape.size(), 1);
    value = call.reshape(value, shape);
  }
  if (std::all_of(counts.begin(), counts.end(), [](int64_t count) { return count == 1; })) return call.result(value);
  call.result("Tile", {value, call.parameter("repeats", counts)});
}

/// Every element, or every slice of `dim`, `repeats` times in a row.
void repeat_interleave(Call& call) {
  call.check(!call.is_tensor("repeats"), "needs one number of repeats for all elements");
  const int64_t count = call.integer("repeats");
  Shape shape = call.shape("self");
  Variable* value = call.tensor("self");
  if (!call.has("dim")) {
    shape = {call.sample("self").numel()};
    value = call.reshape(value, shape);
  }
  const size_t axis = call.has("dim") ? static_cast<size_t>(call.dim("dim", call.rank("self"))) : 0;
  Shape single = shape;
  single.insert(single.begin() + static_cast<std::ptrdiff_t>(axis) + 1, 1);
  Shape target = single;
  target[axis + 1] = count;
  call.result(call.reshape(call.expand(call.reshape(value, single), single, target), call.output_shape()));
}

/// to, type_as, _to_copy, float, ...: floating types are one.
void convert(Call& call) {
  if (call.dtype("self") == call.output_dtype()) return same(call);
  call.result(call.cast(call.tensor("self"), call.output_dtype()));
}

/// copy_(self, src)
void copy(Call& call) {
  call.result(call.expand(call.tensor_as("src", call.output_dtype()), call.shape("src"), call.output_shape()));
}

/// Filled with one value; the operand's values do not matter.
void fill(Call& call) {
  call.result(call.expand(call.tensor_as("value", call.output_dtype()),
                          call.is_tensor("value") ? call.shape("value") : Shape{}, call.output_shape()));
}
void zero(Call& call) { call.result(call.parameter("zero", at::zeros_like(call.output()))); }

}  // namespace

void add_shapes(Table& table) {
  const auto put = [&](std::initializer_list<const char*> names, Mapping map) {
    for (const char* name : names) table[name] = {map, Family::Movement};
  };
  put({"alias", "clone", "contiguous", "detach", "lift_fresh_copy", "lift_fresh", "lift", "requires_grad_", "positive",
       "resolve_conj", "resolve_neg"},
      same);
  put({"dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"}, dropout);
  put({"view", "reshape", "_unsafe_view", "view_as", "reshape_as", "_reshape_alias", "unflatten", "ravel"}, reshape);
  put({"flatten"}, flatten);
  put({"permute"}, permute);
  put({"transpose", "swapaxes", "swapdims"}, transpose);
  put({"t", "numpy_T", "T"}, reversed);
  put({"mT", "matrix_H", "adjoint"}, matrix_transpose);
  put({"movedim", "moveaxis"}, movedim);
  put({"squeeze"}, squeeze);
  put({"unsqueeze"}, unsqueeze);
  put({"expand", "expand_as", "broadcast_to"}, expand);
  put({"repeat", "tile"}, repeat);
  put({"repeat_interleave"}, repeat_interleave);
  put({"to", "type_as", "_to_copy", "float", "double", "half", "bfloat16", "long", "int", "bool", "cpu"}, convert);
  put({"copy_", "copy"}, copy);
  put({"fill", "fill_"}, fill);
  put({"zero", "zero_"}, zero);
}

}  // namespace espq::torch_frontend
