#include "core/quant/scheme.h"

#include "core/support/error.h"

namespace espq {

const std::vector<std::pair<Observer, std::string_view>> EnumNames<Observer>::values = {
    {Observer::MinMax, "minmax"},
    {Observer::Percentile, "percentile"},
    {Observer::KlDivergence, "kl"},
    {Observer::MeanSquaredError, "mse"}};

const std::vector<std::pair<Width, std::string_view>> EnumNames<Width>::values = {
    {Width::Float, "float"}, {Width::Int8, "int8"}, {Width::Int16, "int16"}, {Width::Int16Weights8, "w8a16"}};

ScaleId ScaleForest::create() {
  const auto id = static_cast<ScaleId>(parent_.size());
  parent_.push_back(id);
  exponents_.emplace_back();
  ++revision_;
  return id;
}

ScaleId ScaleForest::root(ScaleId id) const {
  internal_check(id >= 0 && static_cast<size_t>(id) < parent_.size(), "slot has no scale");
  while (parent_[id] != id) id = parent_[id];
  return id;
}

void ScaleForest::merge(ScaleId id, ScaleId into) {
  const ScaleId from = root(id), to = root(into);
  if (from == to) return;
  parent_[from] = to;
  parent_[id] = to;
  ++revision_;
}

void ScaleForest::attach(ScaleId id, ScaleId into) {
  const ScaleId to = root(into);
  if (to == id) return;  // already owned by this node; a cycle would have no root
  parent_[id] = to;
  ++revision_;
}

void ScaleForest::detach(ScaleId id) {
  exponents_[id] = exponents(id);
  parent_[id] = id;
  ++revision_;
}

}  // namespace espq
