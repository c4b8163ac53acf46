// One operation of every kind, in microseconds: the operator cases of the tests in float, and on the chip's integers.
// operators [--benchmark_filter=Conv] [other Google Benchmark options]
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>
#include <c10/core/InferenceMode.h>
#include <spdlog/spdlog.h>

#include <iostream>
#include <sstream>

#include "core/exec/executor.h"
#include "core/exec/float_layout.h"
#include "core/support/error.h"
#include "passes/pipeline/convert.h"
#include "tests/operator_cases/network.h"

namespace espq::test {
namespace {

/// A network to run; lives as long as the benchmark that points into it.
struct Subject {
  Graph graph;
  Tensors inputs;
  std::unique_ptr<Executor> executor;
};

std::unique_ptr<Subject> float_subject(const OperatorCase& value, const Tensors& operands) {
  auto subject = std::make_unique<Subject>(Subject{network_of(value, operands), inputs_of(value, operands), nullptr});
  subject->executor = std::make_unique<Executor>(subject->graph, Precision::Float);
  return subject;
}

/// nullptr when the chip library has no kernel.
std::unique_ptr<Subject> chip_subject(const OperatorCase& value, const Tensors& operands) {
  Recipe recipe;
  recipe.simplify.reset();
  try {
    Conversion made = convert(network_of(value, operands), data_of(value, operands), recipe);
    auto subject = std::make_unique<Subject>(Subject{std::move(made.chip), inputs_of(value, operands), nullptr});
    for (size_t i = 0; i < subject->inputs.size(); ++i)
      subject->inputs[i] = to_chip_layout(*subject->graph.inputs()[i], subject->inputs[i]).contiguous();
    subject->executor = std::make_unique<Executor>(subject->graph, Precision::Board);
    return subject;
  } catch (const UserError& error) {
    std::cerr << "left out: " << error.what() << "\n";
    return nullptr;
  }
}

void add_benchmark(const std::string& name, Subject& subject) {
  benchmark::RegisterBenchmark(name.c_str(), [&subject](benchmark::State& state) {
    const c10::InferenceMode no_gradients;
    subject.executor->run(subject.inputs);  // compiles the plan
    for (auto iteration : state) benchmark::DoNotOptimize(subject.executor->run(subject.inputs));
  })->Unit(benchmark::kMicrosecond);
}

std::vector<std::unique_ptr<Subject>> add_all() {
  std::vector<std::unique_ptr<Subject>> subjects;
  const auto add = [&](const std::string& name, std::unique_ptr<Subject> subject) {
    if (!subject) return;
    add_benchmark(name, *subject);
    subjects.push_back(std::move(subject));
  };
  for (const OperatorCase& value : operator_cases()) {
    std::ostringstream text;
    text << value;
    const Tensors operands = make_operands(value, 20);
    add(text.str() + "/float", float_subject(value, operands));
    if (value.chip.compared) add(text.str() + "/board", chip_subject(value, operands));
  }
  return subjects;
}

}  // namespace
}  // namespace espq::test

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  spdlog::set_level(spdlog::level::err);
  at::set_num_threads(1);
  const auto subjects = espq::test::add_all();
  benchmark::RunSpecifiedBenchmarks();
}
