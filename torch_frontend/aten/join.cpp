#include "torch_frontend/aten/families.h"

namespace espq::torch_frontend {
namespace {

using Integers = Call::Integers;

/// cat, concat: LibTorch skips empty tensors of one dimension.
void cat(Call& call) {
  const int64_t axis = call.dim("dim", static_cast<int64_t>(call.output_shape().size()));
  Call::Variables parts;
  for (const at::Tensor& part : call.samples("tensors"))
    if (!(part.dim() == 1 && part.numel() == 0 && call.output().dim() != 1))
      parts.push_back(call.as(part, call.output_dtype()));
  if (parts.size() == 1) return call.result(parts[0]);
  call.result("Concat", parts, {{"axis", axis}});
}

void stack(Call& call) {
  const int64_t axis = call.dim("dim", static_cast<int64_t>(call.output_shape().size()));
  Call::Variables parts;
  for (const at::Tensor& part : call.samples("tensors"))
    parts.push_back(call.unsqueeze(call.as(part, call.output_dtype()), {axis}));
  call.result("Concat", parts, {{"axis", axis}});
}

/// hstack, vstack, dstack, column_stack: operands are brought to the result's rank, then joined along the axis that
/// grew.
void stack_along(Call& call, int64_t axis) {
  const int64_t rank = static_cast<int64_t>(call.output_shape().size());
  axis = std::min(axis, rank - 1);
  Call::Variables parts;
  for (const at::Tensor& part : call.samples("tensors")) {
    Variable* value = call.as(part, call.output_dtype());
    Shape shape = call.output_shape();
    int64_t others = 1;
    for (int64_t i = 0; i < rank; ++i) others *= i == axis ? 1 : shape[static_cast<size_t>(i)];
    shape[static_cast<size_t>(axis)] = part.numel() / std::max<int64_t>(others, 1);
    parts.push_back(shape == part.sizes().vec() ? value : call.reshape(value, shape));
  }
  call.result("Concat", parts, {{"axis", axis}});
}
void hstack(Call& call) { stack_along(call, 1); }
void vstack(Call& call) { stack_along(call, 0); }
void dstack(Call& call) { stack_along(call, 2); }

/// Every way to cut along one axis: the sizes of the pieces are those of LibTorch's results.
void split(Call& call) {
  const int64_t axis = call.dim("dim", call.rank("self"));
  Integers sizes;
  for (size_t i = 0; i < call.output_count(); ++i) sizes.push_back(call.output(i).size(axis));
  if (sizes.size() == 1) return call.result(call.tensor("self"));
  call.results =
      call.emit_many("Split", {call.tensor("self"), call.parameter("split", sizes)}, {{"axis", axis}}, sizes.size());
}

void unbind(Call& call) {
  const int64_t axis = call.dim("dim", call.rank("self"));
  const Integers sizes(call.output_count(), 1);
  Call::Variables parts = {call.tensor("self")};
  if (sizes.size() > 1)
    parts = call.emit_many("Split", {parts[0], call.parameter("split", sizes)}, {{"axis", axis}}, sizes.size());
  for (Variable* part : parts) call.results.push_back(call.squeeze(part, {axis}));
}

/// Channels in groups change places with the groups.
void channel_shuffle(Call& call) {
  const Shape shape = call.shape("self");
  const int64_t groups = call.integer("groups");
  Shape split = shape;
  split[1] = groups;
  split.insert(split.begin() + 2, shape[1] / groups);
  Integers order;
  for (size_t i = 0; i < split.size(); ++i) order.push_back(static_cast<int64_t>(i));
  std::swap(order[1], order[2]);
  call.result(call.reshape(call.transpose(call.reshape(call.tensor("self"), split), order), shape));
}

/// Three dimensions are a picture without batch.
void on_batch(Call& call, const std::function<Variable*(Variable*)>& body) {
  Variable* value = call.tensor("self");
  const bool missing = call.rank("self") == 3;
  call.check(missing || call.rank("self") == 4, "needs three or four dimensions");
  value = body(missing ? call.unsqueeze(value, {0}) : value);
  call.result(missing ? call.squeeze(value, {0}) : value);
}

void pixel_shuffle(Call& call) {
  on_batch(call, [&](Variable* value) {
    return call.emit("DepthToSpace", {value},
                     {{"blocksize", call.integer("upscale_factor")}, {"mode", std::string("CRD")}});
  });
}

/// ONNX's SpaceToDepth puts the position in front of the channel, LibTorch behind it.
void pixel_unshuffle(Call& call) {
  const int64_t factor = call.integer("downscale_factor");
  Shape shape = call.shape("self");
  if (shape.size() == 3) shape.insert(shape.begin(), 1);
  const Shape blocks{shape[0], shape[1], shape[2] / factor, factor, shape[3] / factor, factor};
  on_batch(call, [&](Variable* value) {
    if (shape[1] == 1) return call.emit("SpaceToDepth", {value}, {{"blocksize", factor}});
    value = call.transpose(call.reshape(value, blocks), {0, 1, 3, 5, 2, 4});
    return call.reshape(value, {shape[0], shape[1] * factor * factor, shape[2] / factor, shape[3] / factor});
  });
}

/// Padding pairs start with the last dimension.
void pad(Call& call, const std::string& mode, const Integers& pairs, Variable* value) {
  const size_t rank = static_cast<size_t>(call.rank("self"));
  Integers pads(2 * rank, 0);
  for (size_t i = 0; i + 1 < pairs.size(); i += 2) {
    pads[rank - 1 - i / 2] = pairs[i];
    pads[2 * rank - 1 - i / 2] = pairs[i + 1];
  }
  if (std::all_of(pads.begin(), pads.end(), [](int64_t count) { return count == 0; }))
    return call.result(call.tensor("self"));
  Call::Variables operands{call.tensor("self"), call.parameter("pads", pads)};
  if (value) operands.push_back(value);
  call.result("Pad", operands, {{"mode", mode}});
}

Variable* pad_value(const Call& call) {
  const double value = call.number("value", 0);
  return value == 0 ? nullptr : call.scalar(value, call.output_dtype());
}

void constant_pad(Call& call) { pad(call, "constant", call.integers("pad"), pad_value(call)); }
void reflection_pad(Call& call) { pad(call, "reflect", call.integers("padding"), nullptr); }
void replication_pad(Call& call) { pad(call, "edge", call.integers("padding"), nullptr); }

/// What leaves at one end comes in again at the other.
void circular_pad(Call& call) {
  const Integers pairs = call.integers("pad");
  Variable* value = call.tensor("self");
  for (size_t i = 0; i + 1 < pairs.size(); i += 2) {
    const int64_t axis = call.rank("self") - 1 - static_cast<int64_t>(i / 2);
    const int64_t size = call.shape("self")[static_cast<size_t>(axis)];
    call.check(pairs[i] >= 0 && pairs[i + 1] >= 0, "circular padding that crops is not supported");
    Call::Variables parts;
    if (pairs[i] > 0) parts.push_back(call.slice(value, axis, size - pairs[i], size));
    parts.push_back(value);
    if (pairs[i + 1] > 0) parts.push_back(call.slice(value, axis, 0, pairs[i + 1]));
    if (parts.size() > 1) value = call.emit("Concat", parts, {{"axis", axis}});
  }
  call.result(value);
}

void named_pad(Call& call) {
  const std::string mode = call.text("mode", "constant");
  if (mode == "constant") return constant_pad(call);
  if (mode == "circular") return circular_pad(call);
  call.check(mode == "reflect" || mode == "replicate", "padding mode '{}' is not supported", mode);
  pad(call, mode == "reflect" ? "reflect" : "edge", call.integers("pad"), nullptr);
}

/// Elements move along axes and come in again at the other end.
void roll(Call& call) {
  const Shape shape = call.shape("self");
  Variable* value = call.tensor("self");
  const Integers shifts = call.integers("shifts"), dims = call.dims("dims", call.rank("self"));
  const bool flat = dims.empty();
  if (flat) value = call.reshape(value, {call.sample("self").numel()});
  for (size_t i = 0; i < shifts.size(); ++i) {
    const int64_t axis = flat ? 0 : dims[i],
                  size = flat ? call.sample("self").numel() : shape[static_cast<size_t>(axis)];
    const int64_t shift = ((shifts[i] % size) + size) % size;
    if (shift == 0) continue;
    value = call.emit("Concat", {call.slice(value, axis, size - shift, size), call.slice(value, axis, 0, size - shift)},
                      {{"axis", axis}});
  }
  call.result(flat ? call.reshape(value, shape) : value);
}

}  // namespace

void add_joins(Table& table) {
  const auto put = [&](std::initializer_list<const char*> names, Mapping map) {
    for (const char* name : names) table[name] = {map, Family::Movement};
  };
  put({"cat", "concat", "concatenate"}, cat);
  put({"stack"}, stack);
  put({"hstack", "column_stack"}, hstack);
  put({"vstack", "row_stack"}, vstack);
  put({"dstack"}, dstack);
  put({"split", "split_with_sizes", "chunk", "unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes", "tensor_split",
       "split_copy", "split_with_sizes_copy"},
      split);
  put({"unbind", "unbind_copy"}, unbind);
  put({"channel_shuffle", "native_channel_shuffle"}, channel_shuffle);
  put({"pixel_shuffle"}, pixel_shuffle);
  put({"pixel_unshuffle"}, pixel_unshuffle);
  put({"constant_pad_nd"}, constant_pad);
  put({"pad"}, named_pad);
  put({"reflection_pad1d", "reflection_pad2d", "reflection_pad3d"}, reflection_pad);
  put({"replication_pad1d", "replication_pad2d", "replication_pad3d"}, replication_pad);
  put({"roll"}, roll);
}

}  // namespace espq::torch_frontend
