#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/data/zip.h"
#include "core/support/file.h"
#include "torch_frontend/call.h"
#include "torch_frontend/reader.h"

namespace espq {
namespace torch_frontend {
namespace {

enum class Format { TorchScript, ExportedProgram };

/// What the archive's entries say. Whole and undamaged, or a UserError.
Format archive_format(std::string_view bytes, const std::string& name) {
  bool code = false, program = false, pickle = false;
  read_zip(bytes, name, [&](const std::string& entry, std::string_view content) {
    const auto inside = [&](std::string_view part) { return entry.find(part) != std::string::npos; };
    if (inside("/code/") || inside("/constants.pkl")) code = true;
    if (inside("/data.pkl")) pickle = true;
    if (inside("/models/") || entry == "serialized_exported_program.json") program = true;
    user_check(!inside("/code/") || content.find("def __setstate__") == std::string_view::npos,
               "{}: '{}' has a __setstate__, which would run while the file is loaded; espq does not load such files",
               name, entry);
  });
  if (code) return Format::TorchScript;
  if (program) return Format::ExportedProgram;
  user_error(
      "{}: {}", name,
      pickle ? "holds weights only (a pickle of torch.save); save the network with torch.jit.save or torch.export.save"
             : "is neither a TorchScript file nor an archive of torch.export");
}

at::Tensor make_example(const Shape& shape, at::ScalarType type, at::Generator& generator) {
  if (at::isFloatingType(type)) return at::randn(shape, generator, at::TensorOptions().dtype(at::kFloat));
  return at::zeros(shape, at::TensorOptions().dtype(type));
}

std::string text(const Shape& shape) {
  std::string result;
  for (const int64_t dim : shape) result += (result.empty() ? "" : "x") + (dim < 0 ? "?" : std::to_string(dim));
  return result;
}

void check_shape(const InputSpec& input, const Shape& shape) {
  int64_t elements = 1;
  for (const int64_t dim : shape) {
    user_check(dim >= 1, "input '{}': dimension {} is impossible", input.name, dim);
    user_check(dim <= (int64_t{1} << 31) / elements, "input '{}' is too large ({})", input.name, text(shape));
    elements *= dim;
  }
  if (!input.shape) return;
  bool fits = shape.size() == input.shape->size();
  for (size_t i = 0; fits && i < shape.size(); ++i) fits = (*input.shape)[i] < 0 || (*input.shape)[i] == shape[i];
  user_check(fits, "input '{}' has shape {} in the file, the given shape {} does not fit", input.name,
             text(*input.shape), text(shape));
}

at::Tensor example_input(const InputSpec& input, const TorchImportOptions& options, at::Generator& generator) {
  const auto example = options.example.find(input.name);
  if (example != options.example.end()) {
    check_shape(input, example->second.sizes().vec());
    return example->second.to(graph_dtype(example->second.scalar_type())).contiguous();
  }
  const auto given_type = options.input_types.find(input.name);
  const at::ScalarType type =
      graph_dtype(given_type != options.input_types.end() ? given_type->second : input.type.value_or(at::kFloat));
  const auto given = options.input_shapes.find(input.name);
  if (given == options.input_shapes.end() && input.recorded.defined()) {
    const at::Tensor recorded = input.recorded.to(type).contiguous();
    // The program is often exported for zeros or ones, on which nothing shows that is wrong.
    const bool tells =
        !at::isFloatingType(type) || recorded.numel() < 2 || recorded.ne(recorded.flatten()[0]).any().item<bool>();
    return tells ? recorded : make_example(recorded.sizes().vec(), type, generator);
  }
  if (given == options.input_shapes.end() && input.usual) return make_example(*input.usual, type, generator);
  user_check(given != options.input_shapes.end(), "input '{}' {}: give its shape (--input-shape {}=1x3x...)",
             input.name,
             input.shape ? "has dynamic dimensions (" + text(*input.shape) + ")"
                         : "has no shape, as TorchScript files do not record it",
             input.name);
  const Shape& shape = given->second;
  check_shape(input, shape);
  return make_example(shape, type, generator);
}

double relative_error(const at::Tensor& graph, const at::Tensor& wanted) {
  if (graph.sizes() != wanted.sizes()) return std::numeric_limits<double>::infinity();
  if (wanted.numel() == 0) return 0;
  const at::Tensor a = graph.to(at::kDouble), b = wanted.to(at::kDouble);
  const at::Tensor equal = (a == b).logical_or(a.isnan().logical_and(b.isnan()));
  const at::Tensor error = at::where(equal, 0.0, (a - b).abs());
  const at::Tensor finite = at::where(b.isfinite(), b.abs(), 0.0);
  const double largest = error.max().item<double>();
  return (std::isnan(largest) ? std::numeric_limits<double>::infinity() : largest) /
         std::max(finite.max().item<double>(), 1e-6);
}

/// Errors add up over the layers of a network: this many times the tolerance of a product.
constexpr double kOutputTolerance = 1e-4;

class Checker {
 public:
  Checker(const Graph& graph, const Reading& reading, const std::unordered_map<const void*, std::string>& names)
      : graph_(graph), reading_(reading), names_(names), executor_(graph, Precision::Float) {
    for (const auto& [variable, value] : reading.tracer.values()) {
      const auto name = names.find(variable);
      if (name != names.end()) values_[name->second] = value;
    }
  }
  TorchAgreement run() {
    TorchAgreement agreement;
    for (const CallRecord& record : reading_.tracer.records()) {
      auto result = check(record);
      if (result) agreement.operators.push_back(std::move(*result));
    }
    const Tensors outputs = executor_.run(reading_.example);
    for (size_t i = 0; i < outputs.size(); ++i)
      agreement.outputs.push_back(
          {graph_.outputs()[i]->name(), relative_error(outputs[i], reading_.outputs[i]), kOutputTolerance});
    return agreement;
  }

 private:
  const Graph& graph_;
  const Reading& reading_;
  const std::unordered_map<const void*, std::string>& names_;
  Executor executor_;
  NamedTensors values_;  // of LibTorch, by name in the graph

  std::optional<OperatorAgreement> check(const CallRecord& record) {
    std::vector<const Operation*> operations;
    OperatorAgreement result{record.target,
                             record.place.module_path,
                             record.place.source,
                             {},
                             0,
                             tolerance(find_mapping(std::string_view(record.target).substr(6))->family)};
    for (const Operation* operation : record.operations) {
      const auto name = names_.find(operation);
      if (name == names_.end()) continue;
      operations.push_back(graph_.find_operation(name->second));
      result.operations.push_back(name->second);
    }
    std::vector<const Variable*> outputs;
    for (const Variable* variable : record.results) {
      const auto name = names_.find(variable);
      if (name != names_.end() && values_.count(name->second)) outputs.push_back(graph_.find_variable(name->second));
    }
    if (outputs.empty()) return std::nullopt;  // nothing of the network needs it
    if (operations.empty()) return result;
    const auto produced = [&](const Variable* variable) {
      return std::find(operations.begin(), operations.end(), variable->producer()) != operations.end();
    };
    std::vector<const Variable*> feeds;
    Tensors values;
    for (const Operation* operation : operations)
      for (const Variable* input : operation->inputs()) {
        if (!input || input->is_parameter() || produced(input)) continue;
        feeds.push_back(input);
        values.push_back(values_.at(input->name()));
      }
    std::erase_if(outputs, [&](const Variable* variable) { return !produced(variable); });
    const Tensors computed = executor_.compile(operations, feeds, outputs).run(values);
    for (size_t i = 0; i < outputs.size(); ++i)
      result.largest_error =
          std::max(result.largest_error, relative_error(computed[i], values_.at(outputs[i]->name())));
    return result;
  }
};

CheckedImport import_file(const std::filesystem::path& file, const TorchImportOptions& options, bool check) {
  const std::string name = file.string();
  std::string bytes = read_file(file);
  const Format format = archive_format(bytes, name);
  const at::NoGradGuard no_gradients;
  try {
    Reading reading(check);
    (format == Format::TorchScript ? read_torchscript : read_exported_program)(std::move(bytes), options, reading);
    reading.tracer.check_refusals();
    std::unordered_map<const void*, std::string> names;
    CheckedImport result{reading.tracer.draft.finish(names), {}};
    user_check(!result.graph.outputs().empty(), "has no output");
    infer_shapes(result.graph, reading.example);
    for (size_t i = 0; i < reading.outputs.size(); ++i)
      internal_check(*result.graph.outputs()[i]->shape() == reading.outputs[i].sizes().vec(),
                     "the shape of output '" + result.graph.outputs()[i]->name() + "' differs from LibTorch's");
    if (check) result.agreement = Checker(result.graph, reading, names).run();
    return result;
  } catch (const UserError& error) {
    throw UserError(fmt::format("{}: {}", name, error.what()));
  } catch (const c10::Error& error) {
    throw UserError(fmt::format("{}: {}", name, error.what_without_backtrace()));
  }
}

}  // namespace

Tensors example_inputs(const std::vector<InputSpec>& inputs, const TorchImportOptions& options) {
  std::vector<std::string> names;
  names.reserve(inputs.size());
  for (const InputSpec& input : inputs) names.push_back(input.name);
  const auto known = [&](const auto& map) {
    for (const auto& [name, unused] : map)
      user_check(std::find(names.begin(), names.end(), name) != names.end(), "has no input '{}' (its inputs: {})", name,
                 fmt::join(names, ", "));
  };
  known(options.input_shapes);
  known(options.input_types);
  known(options.example);
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t{0});
  Tensors result;
  for (const InputSpec& input : inputs) result.push_back(example_input(input, options, generator));
  return result;
}

}  // namespace torch_frontend

bool TorchAgreement::agrees() const {
  return std::all_of(operators.begin(), operators.end(), [](const auto& entry) { return entry.agrees(); }) &&
         std::all_of(outputs.begin(), outputs.end(), [](const auto& entry) { return entry.agrees(); });
}

Graph import_torch(const std::filesystem::path& file, const TorchImportOptions& options) {
  return torch_frontend::import_file(file, options, false).graph;
}

CheckedImport import_torch_checked(const std::filesystem::path& file, const TorchImportOptions& options) {
  return torch_frontend::import_file(file, options, true);
}

}  // namespace espq
