#include "core/data/dataset.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "core/data/sample_files.h"
#include "core/support/error.h"

namespace espq {
namespace {

/// The name NumPy gives to an array that was saved without one.
constexpr const char* kUnnamedArray = "arr_0";

std::string input_names(const Graph& graph) {
  std::vector<std::string_view> names;
  for (const Variable* input : graph.inputs()) names.push_back(input->name());
  return fmt::format("{}", fmt::join(names, ", "));
}

/// The tensor in the dtype of the input; refuses to change a value by more than float rounding does.
at::Tensor convert(const at::Tensor& tensor, const Variable& input, const std::string& where) {
  if (tensor.scalar_type() == input.dtype()) return tensor;
  at::Tensor converted = tensor.to(input.dtype());
  const bool kept = c10::isFloatingType(input.dtype())
                        ? !tensor.is_floating_point() || at::isfinite(converted).all().item<bool>()
                        : converted.to(at::kDouble).equal(tensor.to(at::kDouble));
  user_check(kept, "{}: input '{}' is {}, the data ({}) holds values that do not fit it", where, input.name(),
             c10::toString(input.dtype()), c10::toString(tensor.scalar_type()));
  return converted;
}

/// Pieces of `samples` samples each, the last one smaller if need be; 0 = the batch as it is.
std::vector<Dataset::Batch> cut(Dataset::Batch batch, int64_t samples, const std::string& file) {
  if (samples <= 0) return {std::move(batch)};
  const int64_t count = batch.begin()->second.dim() > 0 ? batch.begin()->second.size(0) : 1;
  if (count <= samples) return {std::move(batch)};
  std::vector<Dataset::Batch> pieces;
  for (int64_t start = 0; start < count; start += samples) {
    Dataset::Batch& piece = pieces.emplace_back();
    for (const auto& [name, tensor] : batch) {
      user_check(tensor.dim() > 0 && tensor.size(0) == count,
                 "{}: '{}' has shape [{}]: files with different numbers of samples cannot be cut into batches", file,
                 name, fmt::join(tensor.sizes(), ", "));
      piece[name] = tensor.narrow(0, start, std::min(samples, count - start));
    }
  }
  return pieces;
}

/// Equal, but for the number of samples in the batch.
bool fits(Shape data, const Shape& input) {
  if (data.size() > 1 && data.size() == input.size()) data[0] = input[0];
  return data == input;
}

/// Equal, but for the batch dimension, which is missing.
bool is_one_sample(at::IntArrayRef data, at::IntArrayRef input) { return !input.empty() && data == input.slice(1); }

}  // namespace

Dataset Dataset::open(const std::vector<std::filesystem::path>& paths) { return open_dataset(paths, {}); }

Dataset open_dataset(const std::vector<std::filesystem::path>& paths, const DataOptions& options) {
  const SampleFiles files = SampleFiles::open(paths, options.image);
  std::vector<Dataset::Batch> batches;
  for (size_t i = 0; i < files.size(); ++i)
    for (Dataset::Batch& batch : cut(files.read(i), options.batch, files.file(i).string()))
      batches.push_back(std::move(batch));
  return Dataset(std::move(batches));
}

Dataset draw_inputs(const Graph& graph, const DrawnInputs& options) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(options.seed);
  std::vector<Dataset::Batch> batches(static_cast<size_t>(options.batches));
  for (Dataset::Batch& batch : batches)
    for (const Variable* input : graph.inputs()) {
      user_check(input->shape().has_value(), "input '{}': its shape is not known", input->name());
      user_check(c10::isFloatingType(input->dtype()), "input '{}' takes {}: only data can say which", input->name(),
                 c10::toString(input->dtype()));
      at::Tensor& drawn = batch[input->name()];
      drawn = at::empty(*input->shape(), at::kFloat);
      if (options.range)
        drawn.uniform_(options.range->first, options.range->second, generator);
      else
        drawn.normal_(0, 1, generator);
    }
  return Dataset(std::move(batches));
}

std::vector<at::Tensor> Dataset::inputs(const Graph& graph, size_t index) const {
  return inputs_of(graph, batches_.at(index), fmt::format("batch {}", index));
}

std::vector<at::Tensor> inputs_of(const Graph& graph, const Dataset::Batch& batch, const std::string& where) {
  const bool unnamed = batch.size() == 1 && (batch.count("") != 0 || batch.count(kUnnamedArray) != 0);
  user_check(!unnamed || graph.inputs().size() == 1,
             "{}: holds one unnamed array, the model has the inputs {}: give .npz files with these names", where,
             input_names(graph));
  for (const auto& [name, tensor] : batch) {
    const Variable* variable = graph.find_variable(name);
    user_check(unnamed || (variable && graph.is_input(variable)), "{}: '{}' is no input of the model, which has {}",
               where, name, input_names(graph));
  }
  std::vector<at::Tensor> tensors;
  for (const Variable* input : graph.inputs()) {
    const auto found = unnamed ? batch.begin() : batch.find(input->name());
    user_check(found != batch.end(), "{}: has no array for input '{}'", where, input->name());
    at::Tensor tensor = found->second;
    if (input->shape() && is_one_sample(tensor.sizes(), *input->shape())) tensor = tensor.unsqueeze(0);
    user_check(!input->shape() || fits(tensor.sizes().vec(), *input->shape()),
               "{}: input '{}' has shape [{}], the data has shape [{}]", where, input->name(),
               fmt::join(input->shape().value_or(Shape{}), ", "), fmt::join(tensor.sizes(), ", "));
    tensors.push_back(convert(tensor, *input, where));
  }
  return tensors;
}

at::Tensor channels_innermost(const at::Tensor& tensor) {
  return tensor.dim() == 4 ? tensor.contiguous(at::MemoryFormat::ChannelsLast) : tensor;
}

Dataset channels_innermost(const Dataset& data) {
  std::vector<Dataset::Batch> batches;
  for (size_t i = 0; i < data.size(); ++i) {
    batches.push_back(data[i]);
    for (auto& [name, tensor] : batches.back()) tensor = channels_innermost(tensor);
  }
  return Dataset(std::move(batches));
}

}  // namespace espq
