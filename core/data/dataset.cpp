#include "core/data/dataset.h"

#include <ATen/ATen.h>

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

/// Equal, but for the number of samples in the batch.
bool fits(Shape data, const Shape& input) {
  if (data.size() > 1 && data.size() == input.size()) data[0] = input[0];
  return data == input;
}

}  // namespace

Dataset Dataset::open(const std::vector<std::filesystem::path>& paths) {
  const SampleFiles files = SampleFiles::open(paths);
  std::vector<Batch> batches;
  for (size_t i = 0; i < files.size(); ++i) batches.push_back(files.read(i));
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
    const at::Tensor& tensor = found->second;
    user_check(!input->shape() || fits(tensor.sizes().vec(), *input->shape()),
               "{}: input '{}' has shape [{}], the data has shape [{}]", where, input->name(),
               fmt::join(input->shape().value_or(Shape{}), ", "), fmt::join(tensor.sizes(), ", "));
    tensors.push_back(convert(tensor, *input, where));
  }
  return tensors;
}

}  // namespace espq
