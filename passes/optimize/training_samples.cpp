#include "passes/optimize/training_samples.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include "core/analysis/float_run.h"
#include "core/exec/side_by_side.h"
#include "core/support/error.h"

namespace espq {
namespace {

/// The rows of a batch; the batch itself where its tensors do not agree on how many there are.
std::vector<Tensors> rows_of(const Tensors& batch) {
  const auto has_rows = [&](const at::Tensor& tensor) {
    return tensor.dim() > 0 && batch[0].dim() > 0 && tensor.size(0) == batch[0].size(0);
  };
  if (batch.empty() || !std::all_of(batch.begin(), batch.end(), has_rows)) return {batch};
  std::vector<Tensors> rows(static_cast<size_t>(batch[0].size(0)));
  for (size_t row = 0; row < rows.size(); ++row)
    for (const at::Tensor& tensor : batch) rows[row].push_back(tensor.narrow(0, static_cast<int64_t>(row), 1));
  return rows;
}

Tensors joined(const Tensors& a, const Tensors& b) {
  Tensors result;
  for (size_t i = 0; i < a.size(); ++i) result.push_back(at::cat({a[i], b[i]}));
  return result;
}

/// Two samples in one run give what each gives by itself.
bool may_join(const Graph& network, const Tensors& a, const Tensors& b, const std::vector<const Variable*>& variables) {
  try {
    Executor executor = float_executor(network);
    const Tensors first = executor.run(a, variables), second = executor.run(b, variables),
                  both = executor.run(joined(a, b), variables);
    for (size_t i = 0; i < variables.size(); ++i) {
      if (first[i].dim() == 0) return false;
      const at::Tensor want = at::cat({first[i], second[i]});
      if (both[i].sizes() != want.sizes()) return false;
      const double size = want.to(at::kDouble).abs().max().item<double>();
      if ((both[i].to(at::kDouble) - want.to(at::kDouble)).abs().max().item<double>() > 1e-4 * size) return false;
    }
    return true;
  } catch (const UserError&) {  // a shape that an exporter wrote into the network
    return false;
  }
}

std::vector<Tensors> batches_of(const Graph& network, const Dataset& data) {
  std::vector<Tensors> batches;
  for (size_t i = 0; i < data.size(); ++i) batches.push_back(data.inputs(network, i));
  return batches;
}

}  // namespace

TrainingSamples training_samples(const Graph& network, const DividedData& data,
                                 const std::vector<const Variable*>& variables) {
  std::vector<Tensors> parts[2] = {batches_of(network, data.training), batches_of(network, data.held_out)}, rows[2];
  for (int part = 0; part < 2; ++part)
    for (const Tensors& batch : parts[part])
      for (Tensors& row : rows_of(batch)) rows[part].push_back(std::move(row));
  TrainingSamples result;
  result.joinable = may_join(network, rows[0].front(), rows[0].back(), variables);
  auto& chosen = result.joinable ? rows : parts;
  result.training = chosen[0].size();
  result.inputs = std::move(chosen[0]);
  for (Tensors& sample : chosen[1]) result.inputs.push_back(std::move(sample));
  return result;
}

std::vector<Tensors> run_samples(const std::function<Piece()>& piece, const std::vector<Tensors>& feeds,
                                 size_t threads) {
  std::vector<Tensors> results(feeds.size());
  const size_t lanes = std::min(threads, feeds.size());
  share_out(lanes, lanes, [&](size_t lane) {
    const c10::NoGradGuard no_gradients;  // other threads have a mode of their own
    Piece own = piece();
    for (size_t i = lane; i < feeds.size(); i += lanes) results[i] = own.run(feeds[i]);
  });
  return results;
}

}  // namespace espq
