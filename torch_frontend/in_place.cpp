#include "torch_frontend/tracer.h"

namespace espq::torch_frontend {
namespace {

using Integers = std::vector<int64_t>;

/// A block of a tensor: along each axis the elements start, start + step, ..., `count` of them.
struct Block {
  Integers start, step, count;
};

/// Positions of the view's elements in the contiguous tensor that shares its memory.
at::Tensor positions(const at::Tensor& whole, const at::Tensor& view) {
  user_check(whole.is_contiguous(), "a part of a tensor is written in place whose whole is not contiguous");
  const at::Tensor numbers = at::arange(whole.numel(), at::kLong);
  return numbers.as_strided(view.sizes(), view.strides(), view.storage_offset() - whole.storage_offset()).contiguous();
}

at::Tensor block_of(const at::Tensor& numbers, const Block& block) {
  at::Tensor result = numbers;
  for (size_t axis = 0; axis < block.start.size(); ++axis)
    result = result.slice(static_cast<int64_t>(axis), block.start[axis],
                          block.start[axis] + (block.count[axis] - 1) * block.step[axis] + 1, block.step[axis]);
  return result;
}

/// The block that holds exactly these positions in this order; nullopt when they are none.
std::optional<Block> find_block(const at::Tensor& whole, const at::Tensor& places) {
  if (places.numel() == 0 || whole.dim() == 0) return std::nullopt;
  const at::Tensor flat = places.flatten();
  Block block;
  at::Tensor rest = flat;
  for (int64_t axis = whole.dim() - 1; axis >= 0; --axis) {
    const at::Tensor index = rest.remainder(whole.size(axis));
    rest = rest.div(whole.size(axis), "floor");
    const auto distinct = std::get<0>(at::_unique(index, true));
    const int64_t first = distinct[0].item<int64_t>(), count = distinct.numel();
    const int64_t step = count > 1 ? distinct[1].item<int64_t>() - first : 1;
    block.start.insert(block.start.begin(), first);
    block.step.insert(block.step.begin(), step);
    block.count.insert(block.count.begin(), count);
    if (first + (count - 1) * step >= whole.size(axis)) return std::nullopt;
  }
  const at::Tensor numbers = at::arange(whole.numel(), at::kLong).view(whole.sizes());
  const at::Tensor candidate = block_of(numbers, block).flatten();
  if (candidate.numel() != flat.numel() || !candidate.equal(flat)) return std::nullopt;
  return block;
}

struct Writer {
  Tracer& tracer;
  const Place& place;

  Variable* integers(const std::string& suffix, const Integers& value) const {
    return tracer.parameter(place, suffix, at::tensor(value, at::kLong));
  }
  Variable* reshape(Variable* input, at::IntArrayRef from, at::IntArrayRef to) const {
    if (from == to) return input;
    return tracer.emit(place, "Reshape", {input, integers("shape", to.vec())}, {})[0];
  }
  Variable* slice(Variable* input, int64_t axis, int64_t start, int64_t end, int64_t step) const {
    return tracer.emit(place, "Slice",
                       {input, integers("starts", {start}), integers("ends", {end}), integers("axes", {axis}),
                        integers("steps", {step})},
                       {})[0];
  }
  /// `target` with `value` in the block's place, for blocks of step 1: axis by axis from the outside.
  Variable* put(Variable* target, Shape shape, const Block& block, Variable* value, size_t axis) const {
    while (axis < shape.size() && block.count[axis] == shape[axis]) ++axis;
    if (axis == shape.size()) return value;
    const int64_t start = block.start[axis], end = start + block.count[axis], size = shape[axis];
    const auto number = static_cast<int64_t>(axis);
    std::vector<Variable*> parts;
    if (start > 0) parts.push_back(slice(target, number, 0, start, 1));
    Shape inner = shape;
    inner[axis] = block.count[axis];
    Block rest = block;
    rest.start[axis] = 0;
    const bool last = inner == block.count;
    parts.push_back(put(last ? target : slice(target, number, start, end, 1), inner, rest, value, axis + 1));
    if (end < size) parts.push_back(slice(target, number, end, size, 1));
    return tracer.emit(place, "Concat", parts, {{"axis", number}})[0];
  }
};

}  // namespace

Variable* read_region(Tracer& tracer, const Place& place, const at::Tensor& whole, Variable* source,
                      const at::Tensor& view) {
  const Writer writer{tracer, place};
  const at::Tensor places = positions(whole, view);
  if (const auto block = find_block(whole, places)) {
    for (int64_t axis = 0; axis < whole.dim(); ++axis) {
      const int64_t start = block->start[axis], step = block->step[axis], count = block->count[axis];
      if (count != whole.size(axis)) source = writer.slice(source, axis, start, start + (count - 1) * step + 1, step);
    }
    return writer.reshape(source, block->count, view.sizes());
  }
  Variable* flat = writer.reshape(source, whole.sizes(), {whole.numel()});
  return tracer.emit(place, "Gather", {flat, tracer.parameter(place, "indices", places)}, {{"axis", int64_t{0}}})[0];
}

Variable* write_region(Tracer& tracer, const Place& place, const at::Tensor& whole, Variable* target,
                       const at::Tensor& view, Variable* value) {
  const Writer writer{tracer, place};
  const at::Tensor places = positions(whole, view);
  const auto block = find_block(whole, places);
  if (block && std::all_of(block->step.begin(), block->step.end(), [](int64_t step) { return step == 1; }))
    return writer.put(target, whole.sizes().vec(), *block, writer.reshape(value, view.sizes(), block->count), 0);
  Variable* flat = writer.reshape(target, whole.sizes(), {whole.numel()});
  Variable* updates = writer.reshape(value, view.sizes(), {view.numel()});
  Variable* indices = tracer.parameter(place, "indices", places.flatten());
  Variable* result = tracer.emit(place, "ScatterElements", {flat, indices, updates}, {{"axis", int64_t{0}}})[0];
  return writer.reshape(result, {whole.numel()}, whole.sizes());
}

/// Before LibTorch writes: the values that the memory has now become a variable.
void Tracer::prepare_write(const at::Tensor& written, const Place& place) {
  const c10::StorageImpl* storage = written.storage().unsafeGetStorageImpl();
  if (memories_.count(storage)) return;
  const auto covers = [&](const at::Tensor& tensor) {
    return tensor.is_contiguous() && tensor.storage_offset() == 0 &&
           static_cast<size_t>(tensor.numel()) * tensor.element_size() == tensor.storage().nbytes();
  };
  at::Tensor base = covers(written) && cells_.count(written.unsafeGetTensorImpl()) ? written : at::Tensor();
  if (!base.defined())
    for (const auto& [unused, cell] : cells_) {
      if (!cell.tensor.has_storage() || cell.tensor.storage().unsafeGetStorageImpl() != storage) continue;
      if (covers(cell.tensor) && (!base.defined() || cell.tensor.dim() > base.dim())) base = cell.tensor;
    }
  // Nothing else shares it: its layout does not matter.
  if (!base.defined() && cells_.count(written.unsafeGetTensorImpl()) && written.is_non_overlapping_and_dense())
    base = written;
  if (!base.defined()) {
    // A constant, or one that was never seen as a whole: its memory as one row (its own shape if it is the whole).
    base = covers(written) ? written : at::empty({0}, written.options());
    if (!covers(written))
      base.set_(written.storage(), 0, {static_cast<int64_t>(written.storage().nbytes() / written.element_size())}, {1});
    user_check(!cells_.count(written.unsafeGetTensorImpl()) || covers(written),
               "{}: writes in place to a part of a tensor that was never whole; use an operator that makes a new one",
               place.text());
    cells_[base.unsafeGetTensorImpl()] = {base, parameter(place, "constant", base), 0};
  }
  memories_[storage] = {base, 0};
}

/// After LibTorch has written: `value` is what `written` holds now.
void Tracer::write(const at::Tensor& written, Variable* value, const Place& place) {
  Memory& memory = memories_.at(written.storage().unsafeGetStorageImpl());
  Variable* before = cells_.at(memory.base.unsafeGetTensorImpl()).variable;
  ++memory.version;
  if (!written.is_same(memory.base)) bind(memory.base, write_region(*this, place, memory.base, before, written, value));
  bind(written, value);
}

Variable* Tracer::read_through(const at::Tensor& view, Memory& memory, const Place& place) {
  Variable* whole = cells_.at(memory.base.unsafeGetTensorImpl()).variable;
  if (view.is_same(memory.base)) return whole;
  Variable* region = read_region(*this, place, memory.base, whole, view);
  bind(view, region);
  return region;
}

}  // namespace espq::torch_frontend
