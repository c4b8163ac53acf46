#include <cmath>
#include <numeric>

#include "torch_frontend/aten/families.h"

namespace espq::torch_frontend {
namespace {

using Integers = Call::Integers;

/// Axes of the argument `dim`; all of them when it is not given or empty.
Integers axes_of(const Call& call) {
  const int64_t rank = call.rank("self");
  Integers axes = call.has("dim") ? call.dims("dim", rank) : Integers{};
  if (axes.empty()) {
    axes.resize(static_cast<size_t>(rank));
    std::iota(axes.begin(), axes.end(), 0);
  }
  std::sort(axes.begin(), axes.end());
  return axes;
}

int64_t count_of(const Call& call) {
  int64_t count = 1;
  for (const int64_t axis : axes_of(call)) count *= call.shape("self")[static_cast<size_t>(axis)];
  return count;
}

Variable* reduce(const Call& call, const std::string& type, Variable* value, bool keep) {
  if (call.rank("self") == 0) return value;
  return call.emit(type, {value, call.parameter("axes", axes_of(call))}, {{"keepdims", static_cast<int64_t>(keep)}});
}

bool keeps(const Call& call) { return call.flag("keepdim", false); }

template <const char* type>
void reduction(Call& call) {
  call.result(reduce(call, type, call.tensor_as("self", call.output_dtype()), keeps(call)));
}

/// amax, amin, and max, min with one operand. With `dim` there are values and positions.
void extreme(Call& call, bool largest) {
  if (call.has("other"))
    return call.result(largest ? "Max" : "Min",
                       {call.tensor_as("self", call.output_dtype()), call.tensor_as("other", call.output_dtype())});
  Variable* value = call.tensor("self");
  call.result(reduce(call, largest ? "ReduceMax" : "ReduceMin", value, keeps(call)));
  if (call.output_count() < 2) return;
  const int64_t axis = call.dim("dim", call.rank("self"));
  Variable* index =
      call.emit_many("TopK", {value, call.parameter("k", Integers{1})},
                     {{"axis", axis}, {"largest", static_cast<int64_t>(largest)}, {"sorted", int64_t{1}}}, 2)[1];
  call.results.push_back(keeps(call) ? index : call.squeeze(index, {axis}));
}
void maximum(Call& call) { extreme(call, true); }
void minimum(Call& call) { extreme(call, false); }

/// norm, linalg_vector_norm
void norm(Call& call) {
  const double order = call.number(call.has("ord") ? "ord" : "p", 2);
  Variable* value = call.tensor_as("self", call.output_dtype());
  if (order == 1 || order == 2)
    return call.result(reduce(call, order == 1 ? "ReduceL1" : "ReduceL2", value, keeps(call)));
  value = call.emit("Abs", {value});
  if (std::isinf(order)) return call.result(reduce(call, order > 0 ? "ReduceMax" : "ReduceMin", value, keeps(call)));
  call.check(order > 0, "norm of order {} is not supported", order);
  value = reduce(call, "ReduceSum", call.emit("Pow", {value, call.scalar(order)}), keeps(call));
  call.result("Pow", {value, call.scalar(1 / order)});
}

/// Mean of the squared distance from the mean, over the count less `correction`.
Variable* variance(const Call& call) {
  double correction = call.flag("unbiased", true) ? 1 : 0;
  if (call.has("correction")) correction = call.number("correction");
  Variable* value = call.tensor_as("self", call.output_dtype());
  Variable* centered = call.emit("Sub", {value, reduce(call, "ReduceMean", value, true)});
  Variable* result = reduce(call, "ReduceMean", call.emit("Mul", {centered, centered}), keeps(call));
  const double count = static_cast<double>(count_of(call));
  call.check(count > correction, "has too few elements");
  return correction == 0 ? result : call.emit("Mul", {result, call.scalar(count / (count - correction))});
}
void var(Call& call) { call.result(variance(call)); }
void standard_deviation(Call& call) { call.result("Sqrt", {variance(call)}); }
void var_mean(Call& call) {
  call.results = {variance(call), reduce(call, "ReduceMean", call.tensor("self"), keeps(call))};
}
void std_mean(Call& call) {
  call.results = {call.emit("Sqrt", {variance(call)}), reduce(call, "ReduceMean", call.tensor("self"), keeps(call))};
}

/// any, all: of truth values as numbers.
void quantifier(Call& call, const char* type) {
  Variable* number = call.cast(call.tensor_as("self", at::kBool), at::kFloat);
  call.result(call.cast(reduce(call, type, number, keeps(call)), at::kBool));
}
void any(Call& call) { quantifier(call, "ReduceMax"); }
void all(Call& call) { quantifier(call, "ReduceMin"); }

/// x1 · x2 / max(|x1| |x2|, eps)
void cosine_similarity(Call& call) {
  const int64_t rank = std::max(call.rank("x1"), call.rank("x2")), axis = call.dim("dim", rank);
  Variable *a = call.tensor("x1"), *b = call.tensor("x2");
  const auto sum = [&](const char* type, Variable* value) {
    return call.emit(type, {value, call.parameter("axes", Integers{axis})}, {{"keepdims", int64_t{0}}});
  };
  const auto length = [&](Variable* value) {
    return call.emit("Max", {sum("ReduceL2", value), call.scalar(call.number("eps"))});
  };
  call.result("Div", {sum("ReduceSum", call.emit("Mul", {a, b})), call.emit("Mul", {length(a), length(b)})});
}

constexpr char kMean[] = "ReduceMean", kSum[] = "ReduceSum", kProd[] = "ReduceProd", kLogSumExp[] = "ReduceLogSumExp";

}  // namespace

void add_reductions(Table& table) {
  const auto put = [&](std::initializer_list<const char*> names, Mapping map, Family family) {
    for (const char* name : names) table[name] = {map, family};
  };
  put({"mean"}, reduction<kMean>, Family::Product);
  put({"sum"}, reduction<kSum>, Family::Product);
  put({"prod"}, reduction<kProd>, Family::Product);
  put({"logsumexp"}, reduction<kLogSumExp>, Family::Transcendental);
  put({"amax", "max"}, maximum, Family::Movement);
  put({"amin", "min"}, minimum, Family::Movement);
  put({"norm", "linalg_vector_norm"}, norm, Family::Product);
  put({"var"}, var, Family::Product);
  put({"std"}, standard_deviation, Family::Product);
  put({"var_mean"}, var_mean, Family::Product);
  put({"std_mean"}, std_mean, Family::Product);
  put({"any"}, any, Family::Movement);
  put({"all"}, all, Family::Movement);
  put({"cosine_similarity"}, cosine_similarity, Family::Product);
}

}  // namespace espq::torch_frontend
