#pragma once
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/data/dataset.h"
#include "torch_frontend/torch_frontend.h"

namespace espq {

/// One network of tests/data/make_torch_cases.py.
struct TorchCase {
  std::string name;
  size_t inputs = 0, outputs = 0;
  bool pt2 = false;
  std::map<std::string, at::Tensor> arrays = {};

  static std::filesystem::path folder() { return ESPQ_TORCH_CASES; }
  std::filesystem::path file(const std::string& ending) const { return folder() / (name + ending); }
  at::Tensor input(size_t i) const { return arrays.at("in_" + std::to_string(i)); }
  at::Tensor output(size_t i) const { return arrays.at("out_" + std::to_string(i)); }
  Tensors input_list() const {
    Tensors result;
    for (size_t i = 0; i < inputs; ++i) result.push_back(input(i));
    return result;
  }
};

/// Why there are no cases; empty when there are.
inline std::string torch_cases_missing() {
  std::ifstream file(TorchCase::folder() / "cases.json");
  if (!file) return "run the CTest test torch_cases first";
  return nlohmann::json::parse(file).value("skipped", "");
}

inline std::vector<TorchCase> torch_cases() {
  std::ifstream file(TorchCase::folder() / "cases.json");
  std::vector<TorchCase> result;
  const nlohmann::json index = nlohmann::json::parse(file);
  for (const auto& entry : index.at("cases")) {
    TorchCase one{entry.at("name"), entry.at("inputs"), entry.at("outputs"), entry.at("pt2")};
    one.arrays = read_npz(one.file(".npz"));
    result.push_back(std::move(one));
  }
  return result;
}

inline TorchCase torch_case(const std::string& name) {
  for (TorchCase& one : torch_cases())
    if (one.name == name) return one;
  throw std::runtime_error("no case " + name);
}

#define ESPQ_REQUIRE_TORCH_CASES() \
  if (const std::string missing = torch_cases_missing(); !missing.empty()) GTEST_SKIP() << missing

}  // namespace espq
