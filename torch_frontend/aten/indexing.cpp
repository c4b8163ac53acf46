#include "torch_frontend/aten/families.h"

namespace espq::torch_frontend {
namespace {

using Integers = Call::Integers;

void same(Call& call) { call.result(call.tensor("self")); }

Variable* gather(const Call& call, Variable* data, Variable* indices, int64_t axis) {
  return call.emit("Gather", {data, indices}, {{"axis", axis}});
}

void slice(Call& call) {
  const int64_t axis = call.dim("dim", call.rank("self")), size = call.shape("self")[static_cast<size_t>(axis)];
  const auto wrapped = [&](std::string_view name, int64_t fallback) {
    const int64_t value = call.integer(name, fallback);
    return std::clamp<int64_t>(value < 0 ? value + size : value, 0, size);
  };
  const int64_t start = wrapped("start", 0), end = wrapped("end", size), step = call.integer("step");
  if (start == 0 && end == size && step == 1) return same(call);
  call.result(call.slice(call.tensor("self"), axis, start, end, step));
}

void narrow(Call& call) {
  const int64_t axis = call.dim("dim", call.rank("self")), size = call.shape("self")[static_cast<size_t>(axis)];
  int64_t start = call.integer("start");
  if (start < 0) start += size;
  call.result(call.slice(call.tensor("self"), axis, start, start + call.integer("length")));
}

void select(Call& call) {
  const int64_t axis = call.dim("dim", call.rank("self"));
  call.result(gather(call, call.tensor("self"),
                     call.parameter("index", at::scalar_tensor(call.integer("index"), at::kLong)), axis));
}

void index_select(Call& call) {
  call.result(gather(call, call.tensor("self"), call.tensor("index"), call.dim("dim", call.rank("self"))));
}

void gather_elements(Call& call) {
  if (call.is_constant("index") && call.rank("self") > 0) {
    // Which elements is known: a choice from the flattened operand.
    const Shape shape = call.shape("self");
    const at::Tensor places = at::arange(call.sample("self").numel(), at::kLong).view(shape);
    const at::Tensor positions = at::gather(places, call.dim("dim", call.rank("self")), call.sample("index"));
    Variable* flat = call.reshape(call.tensor("self"), {places.numel()});
    return call.result(gather(call, flat, call.parameter("indices", positions), 0));
  }
  call.result("GatherElements", {call.tensor("self"), call.tensor("index")},
              {{"axis", call.dim("dim", call.rank("self"))}});
}

/// Positions of the elements that constant indices choose, in the flattened operand.
at::Tensor chosen(const Call& call) {
  c10::List<std::optional<at::Tensor>> indices;
  for (const at::Tensor& index : call.samples("indices")) {
    if (index.defined()) call.check(!call.variable(index)->producer(), "its indices depend on the inputs");
    indices.push_back(index.defined() ? std::optional(index) : std::nullopt);
  }
  return at::index(at::arange(call.sample("self").numel(), at::kLong).view(call.shape("self")), indices);
}

/// self[indices]: Gather where one tensor of indices stands, else a choice from the flattened operand.
void index(Call& call) {
  const auto indices = call.samples("indices");
  Integers given;
  for (size_t axis = 0; axis < indices.size(); ++axis)
    if (indices[axis].defined()) given.push_back(static_cast<int64_t>(axis));
  if (given.empty()) return same(call);
  const at::Tensor& only = indices[static_cast<size_t>(given[0])];
  if (given.size() == 1 && only.scalar_type() != at::kBool && only.scalar_type() != at::kByte)
    return call.result(gather(call, call.tensor("self"), call.as(only, at::kLong), given[0]));
  const at::Tensor positions = chosen(call);
  Variable* flat = call.reshape(call.tensor("self"), {call.sample("self").numel()});
  call.result(gather(call, flat, call.parameter("indices", positions), 0));
}

void index_put(Call& call) {
  call.check(!call.flag("accumulate"), "adds to the indexed elements, which is not supported");
  const at::Tensor positions = chosen(call);
  const Shape shape = call.shape("self"), count{positions.numel()};
  Variable* values =
      call.expand(call.tensor_as("values", call.output_dtype()), call.shape("values"), positions.sizes().vec());
  Variable* flat = call.reshape(call.tensor("self"), {call.sample("self").numel()});
  flat =
      call.emit("ScatterElements", {flat, call.parameter("indices", positions.flatten()), call.reshape(values, count)},
                {{"axis", int64_t{0}}});
  call.result(call.reshape(flat, shape));
}

/// scatter(self, dim, index, src)
void scatter(Call& call) {
  call.check(!call.has("reduce"), "combines elements, which is not supported");
  const Shape index = call.shape("index");
  Variable* source = call.has("src") ? call.tensor_as("src", call.output_dtype())
                                     : call.expand(call.tensor_as("value", call.output_dtype()), {}, index);
  if (call.has("src") && call.shape("src") != index)
    for (size_t axis = 0; axis < index.size(); ++axis)
      if (call.shape("src")[axis] != index[axis])
        source = call.slice(source, static_cast<int64_t>(axis), 0, index[axis]);
  call.result("ScatterElements", {call.tensor("self"), call.tensor("index"), source},
              {{"axis", call.dim("dim", call.rank("self"))}});
}

// ------------------------------------------------------------------------------------------------------ regions
/// A tensor of the operand's shape that stands for its memory.
at::Tensor stand_in(const Call& call) { return at::empty(call.shape("self"), at::kFloat); }

void select_scatter(Call& call) {
  const at::Tensor whole = stand_in(call);
  call.result(call.write_region(whole, call.tensor("self"), whole.select(call.integer("dim"), call.integer("index")),
                                call.tensor_as("src", call.output_dtype())));
}

void slice_scatter(Call& call) {
  const at::Tensor whole = stand_in(call);
  const int64_t end = call.integer("end", std::numeric_limits<int64_t>::max());
  const at::Tensor view = whole.slice(call.integer("dim"), call.integer("start", 0), end, call.integer("step"));
  Variable* source = call.expand(call.tensor_as("src", call.output_dtype()), call.shape("src"), view.sizes().vec());
  call.result(call.write_region(whole, call.tensor("self"), view, source));
}

void unfold(Call& call) {
  const at::Tensor whole = stand_in(call);
  const at::Tensor view = whole.unfold(call.integer("dimension"), call.integer("size"), call.integer("step"));
  call.result(call.read_region(whole, call.tensor("self"), view));
}

void diagonal(Call& call) {
  const at::Tensor whole = stand_in(call);
  call.result(call.read_region(whole, call.tensor("self"),
                               whole.diagonal(call.integer("offset"), call.integer("dim1"), call.integer("dim2"))));
}

void as_strided(Call& call) {
  const at::Tensor self = call.sample("self");
  call.check(self.is_contiguous() && self.storage_offset() == 0, "needs an operand that is contiguous");
  const at::Tensor whole = stand_in(call);
  const at::Tensor view =
      whole.as_strided(call.integers("size"), call.integers("stride"), call.integer("storage_offset", 0));
  call.result(call.read_region(whole, call.tensor("self"), view));
}

/// Blocks of a picture as columns: a choice from the padded operand.
void im2col(Call& call) {
  const Integers padding = call.integers("padding", 2);
  Shape shape = call.shape("self");
  call.check(shape.size() == 4, "needs four dimensions");
  Variable* value = call.tensor("self");
  if (padding[0] || padding[1])
    value = call.emit(
        "Pad", {value, call.parameter("pads", Integers{0, 0, padding[0], padding[1], 0, 0, padding[0], padding[1]})},
        {{"mode", std::string("constant")}});
  shape[2] += 2 * padding[0];
  shape[3] += 2 * padding[1];
  int64_t elements = 1;
  for (const int64_t dim : shape) elements *= dim;
  const at::Tensor numbers = at::arange(elements, at::kDouble).view(shape);
  const at::Tensor positions = at::im2col(numbers, call.integers("kernel_size", 2), call.integers("dilation", 2),
                                          {0, 0}, call.integers("stride", 2))
                                   .to(at::kLong);
  call.result(gather(call, call.reshape(value, {elements}), call.parameter("indices", positions), 0));
}

// ------------------------------------------------------------------------------------------------------ further
Variable* flipped(const Call& call, Variable* value, int64_t axis) {
  Integers order;
  for (int64_t i = call.shape("self")[static_cast<size_t>(axis)] - 1; i >= 0; --i) order.push_back(i);
  return gather(call, value, call.parameter("indices", order), axis);
}

void flip(Call& call) {
  Variable* value = call.tensor("self");
  for (const int64_t axis : call.dims("dims", call.rank("self"))) value = flipped(call, value, axis);
  call.result(value);
}

/// From the first of two axes to the second, by quarters.
void rot90(Call& call) {
  const Integers axes = call.dims("dims", call.rank("self"));
  const int64_t quarters = ((call.integer("k") % 4) + 4) % 4;
  Variable* value = call.tensor("self");
  if (quarters == 1 || quarters == 2) value = flipped(call, value, axes.at(1));
  if (quarters == 3 || quarters == 2) value = flipped(call, value, axes.at(0));
  if (quarters % 2 == 1) {
    Integers order(static_cast<size_t>(call.rank("self")));
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
    std::swap(order[static_cast<size_t>(axes[0])], order[static_cast<size_t>(axes[1])]);
    value = call.transpose(value, order);
  }
  call.result(value);
}

/// One number at the constant places of an axis.
void index_fill(Call& call) {
  const int64_t rank = call.rank("self"), axis = call.dim("dim", rank);
  const at::Tensor index = call.constant("index");
  call.check(rank > 0, "needs an operand with dimensions");
  Shape shape(static_cast<size_t>(rank), 1);
  shape[static_cast<size_t>(axis)] = call.shape("self")[static_cast<size_t>(axis)];
  const at::Tensor filled =
      at::zeros({shape[static_cast<size_t>(axis)]}, at::kBool).index_fill(0, index.to(at::kLong), true).view(shape);
  call.result("Where",
              {call.parameter("mask", filled), call.tensor_as("value", call.output_dtype()), call.tensor("self")});
}

void embedding(Call& call) { call.result(gather(call, call.tensor("weight"), call.tensor("indices"), 0)); }

/// Elements on one side of a diagonal: the others are known to be 0.
void triangle(Call& call, int64_t upper) {
  if (call.output_dtype() == at::kFloat && !call.is_constant("self")) {
    const Shape shape = call.shape("self");
    const at::Tensor ones = at::ones({shape.end()[-2], shape.end()[-1]});
    const int64_t offset = call.integer("diagonal");
    return call.result("Mul",
                       {call.tensor("self"), call.parameter("mask", upper ? ones.triu(offset) : ones.tril(offset))});
  }
  call.result("Trilu",
              {call.tensor("self"), call.parameter("k", at::scalar_tensor(call.integer("diagonal"), at::kLong))},
              {{"upper", upper}});
}
void tril(Call& call) { triangle(call, 0); }
void triu(Call& call) { triangle(call, 1); }

Call::Variables top(const Call& call, Variable* value, int64_t axis, int64_t count, bool largest) {
  return call.emit_many("TopK", {value, call.parameter("k", Integers{count})},
                        {{"axis", axis}, {"largest", static_cast<int64_t>(largest)}, {"sorted", int64_t{1}}}, 2);
}

void topk(Call& call) {
  call.results =
      top(call, call.tensor("self"), call.dim("dim", call.rank("self")), call.integer("k"), call.flag("largest"));
}

void sort(Call& call) {
  const int64_t axis = call.dim("dim", call.rank("self"));
  call.results =
      top(call, call.tensor("self"), axis, call.shape("self")[static_cast<size_t>(axis)], call.flag("descending"));
}

void arg(Call& call, bool largest) {
  Variable* value = call.tensor("self");
  const bool flat = !call.has("dim");
  const int64_t axis = flat ? 0 : call.dim("dim", call.rank("self"));
  if (flat) value = call.reshape(value, {call.sample("self").numel()});
  Variable* index = top(call, value, axis, 1, largest)[1];
  if (flat) return call.result(call.reshape(index, call.output_shape()));
  call.result(call.flag("keepdim") ? index : call.squeeze(index, {axis}));
}
void argmax(Call& call) { arg(call, true); }
void argmin(Call& call) { arg(call, false); }

void one_hot(Call& call) {
  const int64_t depth = call.output_shape().back();
  call.result("OneHot",
              {call.tensor("self"), call.parameter("depth", at::scalar_tensor(depth, at::kLong)),
               call.parameter("values", Integers{0, 1})},
              {{"axis", int64_t{-1}}});
}

}  // namespace

void add_indexing(Table& table) {
  const auto put = [&](std::initializer_list<const char*> names, Mapping map) {
    for (const char* name : names) table[name] = {map, Family::Movement};
  };
  put({"slice", "slice_copy"}, slice);
  put({"narrow", "narrow_copy"}, narrow);
  put({"select", "select_copy"}, select);
  put({"index_select"}, index_select);
  put({"gather"}, gather_elements);
  put({"index"}, index);
  put({"index_put"}, index_put);
  put({"scatter"}, scatter);
  put({"select_scatter"}, select_scatter);
  put({"slice_scatter"}, slice_scatter);
  put({"unfold"}, unfold);
  put({"diagonal"}, diagonal);
  put({"as_strided"}, as_strided);
  put({"im2col"}, im2col);
  put({"flip"}, flip);
  put({"embedding"}, embedding);
  put({"tril"}, tril);
  put({"triu"}, triu);
  put({"rot90"}, rot90);
  put({"index_fill"}, index_fill);
  put({"topk"}, topk);
  put({"sort"}, sort);
  put({"argmax"}, argmax);
  put({"argmin"}, argmin);
  put({"one_hot"}, one_hot);
}

}  // namespace espq::torch_frontend
