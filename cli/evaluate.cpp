#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <mutex>
#include <numeric>
#include <optional>

#include "cli/model_files.h"
#include "cli/progress.h"
#include "cli/verbs.h"
#include "core/analysis/match_graphs.h"
#include "core/analysis/measure.h"
#include "core/analysis/metrics.h"
#include "core/analysis/sample_runner.h"
#include "core/data/labels.h"
#include "core/data/sample_files.h"
#include "core/exec/float_layout.h"
#include "core/exec/side_by_side.h"
#include "core/support/error.h"
#include "core/support/memory.h"
#include "core/support/progress.h"

namespace espq::cli {
namespace {

/// DIR/STEM/OUTPUT.npy for every sample. All of it appears when every sample has been run, or nothing.
class ResultFolder {
 public:
  ResultFolder(const std::filesystem::path& folder, std::vector<std::string> files)
      : folder_(folder), files_(std::move(files)), is_new_(!std::filesystem::exists(folder)) {
    part_ = folder / fmt::format(".part{}", ::getpid());
    make_folder(part_);
  }
  ResultFolder(const ResultFolder&) = delete;
  ResultFolder& operator=(const ResultFolder&) = delete;
  ~ResultFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(part_, ignored);
    if (is_new_) std::filesystem::remove(folder_, ignored);  // if it is still empty
  }

  /// Different samples may be written by different threads at once.
  void write(const std::string& stem, const Tensors& outputs) const {
    make_folder(part_ / stem);
    for (size_t i = 0; i < outputs.size(); ++i) write_npy(part_ / stem / files_[i], outputs[i]);
  }

  void publish(const SampleFiles& samples) const {
    for (size_t sample = 0; sample < samples.size(); ++sample) {
      const std::string stem = samples.stem(sample);
      make_folder(folder_ / stem);
      for (const std::string& file : files_) {
        std::error_code status;
        std::filesystem::rename(part_ / stem / file, folder_ / stem / file, status);
        user_check(!status, "{}: cannot be written: {}", (folder_ / stem / file).string(), status.message());
      }
    }
  }

 private:
  std::filesystem::path folder_, part_;
  std::vector<std::string> files_;
  bool is_new_;
};

bool wants(const EvaluateCommand& command, std::string_view metric) {
  return std::find(command.metrics.begin(), command.metrics.end(), metric) != command.metrics.end();
}

bool is_built_in(const std::string& metric) { return metric == "accuracy" || metric == "agreement" || metric == "snr"; }

void check_options(const EvaluateCommand& command) {
  const bool built_in = std::any_of(command.metrics.begin(), command.metrics.end(), is_built_in);
  const bool program = !std::all_of(command.metrics.begin(), command.metrics.end(), is_built_in);
  user_check(!command.out_dir.empty() || built_in, "nothing to do: give --out-dir, --metric, or both");
  user_check(!command.out_dir.empty() || !program, "a program that measures needs the results: give --out-dir");
  user_check(!wants(command, "accuracy") || !command.labels.empty(), "accuracy needs the right answers: give --labels");
  user_check(command.labels.empty() || wants(command, "accuracy"), "--labels is for --metric accuracy");
  const bool compares = wants(command, "agreement") || wants(command, "snr");
  user_check(!compares || !command.reference.empty(),
             "agreement and snr compare with a model, the float model as a rule: give --reference");
  user_check(command.reference.empty() || compares, "--reference is for --metric agreement and snr");
  user_check(!command.chip_layout || !built_in, "metrics compare in the float model's order: leave out --chip-layout");
  const bool takes_shapes = is_float_model(command.model) || is_float_model(command.reference);
  user_check(command.input_shapes.empty() || takes_shapes, "--input-shape is for float models, {} is none",
             command.model.string());
  for (const auto& [wanted, option] :
       {std::pair{command.integers, "--integers"}, std::pair{command.chip_layout, "--chip-layout"}})
    user_check(!wanted || command.model.extension() == ".espdl", "{} is for .espdl files, {} is a float model", option,
               command.model.string());
}

/// What the metrics need of every sample.
struct SampleFigures {
  std::vector<int64_t> classes, reference_classes;
  std::vector<double> noise_to_signal;  ///< per output
};

/// Runs samples on several threads, each with runners of its own.
class Evaluation {
 public:
  Evaluation(const EvaluateCommand& command, const SampleFiles& samples)
      : command_(command),
        samples_(samples),
        figures_(samples.size()),
        threads_(std::min(command.threads ? command.threads : one_thread_each_.threads(), samples.size())),
        runners_(threads_) {
    const Dataset::Batch example = command.input_shapes.empty() ? samples.read(0) : Dataset::Batch{};
    model_ = open_model(command.model, {command.precision, command.target, {}, command.access}, example);
    if (command.reference.empty()) return;
    reference_ = open_model(command.reference, {.target = command.target}, example);
    const size_t count = model_->graph.outputs().size(), others = reference_->graph.outputs().size();
    user_check(count == others, "{} has {} outputs, {} has {}: they cannot be compared", command.model.string(), count,
               command.reference.string(), others);
    if (!reference_->graph.is_chip()) infer_shapes(reference_->graph, zero_inputs(reference_->graph));
    match_outputs();
  }

  const Graph& graph() const { return model_->graph; }
  size_t threads() const { return threads_; }
  const std::vector<SampleFigures>& figures() const { return figures_; }

  void run(const ResultFolder* results) {
    std::mutex reporting;
    size_t done = 0;
    share_out(samples_.size(), threads_, [&](size_t sample, size_t thread) {
      run_sample(sample, runners_[thread], results);
      const std::lock_guard lock(reporting);
      report_progress("evaluation", ++done, samples_.size());
    });
  }

 private:
  struct Runners {
    std::optional<SampleRunner> model, reference;
  };

  const OneThreadEach one_thread_each_;
  const EvaluateCommand& command_;
  const SampleFiles& samples_;
  std::optional<RunnableFile> model_, reference_;
  std::vector<size_t> reference_of_;  ///< place of the reference's output, by output
  std::vector<SampleFigures> figures_;
  size_t threads_;
  std::vector<Runners> runners_;

  /// Shapes that the user gives are those of whatever is a float model.
  RunnableFile open_model(const std::filesystem::path& file, RunnableChoice choice,
                          const Dataset::Batch& example) const {
    const bool is_float = is_float_model(file);
    if (is_float) choice.input_shapes = command_.input_shapes;
    RunnableFile model = open_runnable(file, choice, example);
    if (is_float) end_as_files_do(model.graph);
    return model;
  }

  /// Files may hold the outputs in another order: names tell, else the place. Where a file does not say how an output's
  /// dimensions are ordered, the reference's shape does.
  void match_outputs() {
    const auto theirs = std::as_const(reference_->graph).outputs();
    for (Variable* output : model_->graph.outputs()) {
      const auto same_name = [&](const Variable* other) { return other->name() == output->name(); };
      reference_of_.push_back(
          static_cast<size_t>(std::find_if(theirs.begin(), theirs.end(), same_name) - theirs.begin()));
    }
    if (std::count(reference_of_.begin(), reference_of_.end(), theirs.size()) > 0)
      std::iota(reference_of_.begin(), reference_of_.end(), size_t{0});
    for (size_t i = 0; i < reference_of_.size(); ++i) {
      Variable& output = *model_->graph.outputs()[i];
      const std::optional<Shape>& shape = theirs[reference_of_[i]]->shape();
      if (!model_->graph.is_chip() || reference_->graph.is_chip() || !shape || !output.shape()) continue;
      if (float_shape(output) == *shape) continue;
      const auto orders = fitting_orders(*shape, *output.shape(), has_channels_last(output));
      if (!orders.empty()) output.set_permutation({orders[0].begin(), orders[0].end()});
    }
  }

  void run_sample(size_t sample, Runners& runners, const ResultFolder* results) {
    const Dataset::Batch batch = samples_.read(sample);
    const std::string where = samples_.file(sample).string();
    if (!runners.model)
      runners.model.emplace(Runnable{model_->graph, model_->precision},
                            SampleForm{command_.integers, command_.chip_layout});
    if (reference_ && !runners.reference) runners.reference.emplace(Runnable{reference_->graph, reference_->precision});
    Tensors outputs = runners.model->run(batch, where);
    if (results) results->write(samples_.stem(sample), outputs);
    for (size_t i = 0; command_.integers && i < outputs.size(); ++i)
      outputs[i] = real_values(*model_->graph.outputs()[i], outputs[i]);
    Tensors reference;
    if (reference_) {
      const Tensors theirs = runners.reference->run(batch, where);
      for (const size_t place : reference_of_) reference.push_back(theirs[place]);
    }
    figures_[sample] = measure_sample(outputs, reference, where);
  }

  SampleFigures measure_sample(const Tensors& outputs, const Tensors& reference, const std::string& where) const {
    SampleFigures figures;
    if (wants(command_, "accuracy") || wants(command_, "agreement")) figures.classes = best_classes(outputs[0]);
    if (wants(command_, "agreement")) figures.reference_classes = best_classes(reference[0]);
    if (!wants(command_, "snr")) return figures;
    for (size_t i = 0; i < outputs.size(); ++i) {
      user_check(outputs[i].sizes() == reference[i].sizes(), "{}: output {} has shape [{}], the reference's [{}]",
                 where, i, fmt::join(outputs[i].sizes(), ", "), fmt::join(reference[i].sizes(), ", "));
      figures.noise_to_signal.push_back(
          measure(Measure::NoiseToSignal, outputs[i].to(at::kDouble), reference[i].to(at::kDouble)));
    }
    return figures;
  }
};

std::vector<int64_t> all_classes(const std::vector<SampleFigures>& figures, std::vector<int64_t> SampleFigures::*of) {
  std::vector<int64_t> all;
  for (const SampleFigures& sample : figures) all.insert(all.end(), (sample.*of).begin(), (sample.*of).end());
  return all;
}

/// "snr: 21.00 dB (boxes 20.00, scores 22.00)": the mean over outputs, then every output.
std::string snr_line(const Evaluation& evaluation) {
  const auto outputs = evaluation.graph().outputs();
  double sum = 0;
  std::string single;
  for (size_t i = 0; i < outputs.size(); ++i) {
    std::vector<double> noise;
    for (const SampleFigures& sample : evaluation.figures()) noise.push_back(sample.noise_to_signal[i]);
    const double decibel = decibel_of(noise);
    sum += decibel;
    single += fmt::format("{}{} {:.2f}", i ? ", " : "", outputs[i]->name(), decibel);
  }
  const std::string mean = fmt::format("snr: {:.2f} dB", sum / static_cast<double>(outputs.size()));
  return outputs.size() == 1 ? mean : mean + " (" + single + ")";
}

/// Runs the shell command with the folder as its last argument and returns the number that it prints.
double number_of_program(const std::string& program, const std::filesystem::path& folder) {
  std::string quoted;
  for (const char character : folder.string())
    quoted += character == '\'' ? std::string("'\\''") : std::string(1, character);
  std::cout.flush();
  FILE* stream = ::popen((program + " '" + quoted + "'").c_str(), "r");
  user_check(stream != nullptr, "{}: cannot be started", program);
  std::string text;
  std::array<char, 4096> buffer;
  for (size_t got; (got = std::fread(buffer.data(), 1, buffer.size(), stream)) > 0;) text.append(buffer.data(), got);
  const int status = ::pclose(stream);
  user_check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "{}: failed (exit code {})", program,
             WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  constexpr std::string_view spaces = " \t\r\n";
  const size_t first = std::min(text.find_first_not_of(spaces), text.size());
  const std::string word = text.substr(first, text.find_last_not_of(spaces) + 1 - first);
  double value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  user_check(error == std::errc() && end == word.data() + word.size(), "{}: printed \"{}\", one number is expected",
             program, word);
  return value;
}

std::string metric_line(const std::string& metric, const EvaluateCommand& command, const Evaluation& evaluation,
                        const std::vector<int64_t>& labels) {
  if (metric == "snr") return snr_line(evaluation);
  if (!is_built_in(metric)) return fmt::format("{}: {}", metric, number_of_program(metric, command.out_dir));
  const auto classes = all_classes(evaluation.figures(), &SampleFigures::classes);
  return fmt::format("{}: {:.2f} %", metric,
                     percent_equal(classes, metric == "accuracy" ? labels
                                                                 : all_classes(evaluation.figures(),
                                                                               &SampleFigures::reference_classes)));
}

}  // namespace

int evaluate(const EvaluateCommand& command) {
  check_options(command);
  keep_freed_memory();  // every sample needs what the one before it freed
  const SampleFiles samples = SampleFiles::open(command.inputs, command.data.image);
  samples.check_stems();
  std::vector<std::string> stems;
  for (size_t i = 0; i < samples.size(); ++i) stems.push_back(samples.stem(i));
  const std::vector<int64_t> labels =
      command.labels.empty() ? std::vector<int64_t>{} : read_labels(command.labels, stems);
  Evaluation evaluation(command, samples);
  const auto start = std::chrono::steady_clock::now();
  {
    std::optional<ResultFolder> results;
    if (!command.out_dir.empty()) results.emplace(command.out_dir, file_names(names_of(evaluation.graph().outputs())));
    const ProgressBar progress(!command.quiet);
    evaluation.run(results ? &*results : nullptr);
    if (results) results->publish(samples);
  }
  if (!command.quiet)
    std::cout << fmt::format("{} samples in {:.1f} s on {} threads\n", samples.size(),
                             std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(),
                             evaluation.threads());
  for (const std::string& metric : command.metrics)
    std::cout << metric_line(metric, command, evaluation, labels) << std::endl;
  return kSuccess;
}

}  // namespace espq::cli
