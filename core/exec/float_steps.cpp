#include "core/exec/step_parts.h"
#include "core/quant/fake_quantize.h"

namespace espq {
namespace {

/// The network as it was imported: ONNX semantics, no grids. Of a chip graph, the numbers that its integers stand for.
class FloatCompiler final : public StepCompiler {
 public:
  using StepCompiler::StepCompiler;

  std::vector<Step> steps(const std::vector<const Operation*>& order,
                          const std::vector<const Variable*>& /*requested*/) override {
    std::vector<Step> result;
    result.reserve(order.size());
    for (const Operation* operation : order)
      result.push_back(graph_.is_chip() ? chip_float_step(graph_, *operation) : step(*operation));
    return result;
  }

  at::Tensor enter(const Variable& input, const at::Tensor& value) const override {
    return enter_floats(graph_, input, value);
  }

 private:
  static void clamp_in_place(Step& step) {
    const std::optional<ClipBounds> bounds = constant_bounds(step);
    if (!bounds || step.inputs[0].variable->dtype() != at::kFloat) return;
    pass_operand_on(step);
    step.outputs[0].round = [bounds = *bounds](at::Tensor value) { return clamp_result(std::move(value), bounds); };
  }

  Step step(const Operation& operation) const {
    Step result(operation);
    const ForwardContext context{.operation = operation};
    use_forward(result, context);
    if (!settings_.training && !settings_.watched) clamp_in_place(result);
    const size_t operands = result.inputs.size();
    if (settings_.training)
      use_training(result, settings_, {context, std::vector<Grid>(operands), std::vector<SharedRounding>(operands)});
    return result;
  }
};

}  // namespace

std::unique_ptr<StepCompiler> float_compiler(const Graph& graph, const ExecutionSettings& settings) {
  return std::make_unique<FloatCompiler>(graph, settings);
}

}  // namespace espq
