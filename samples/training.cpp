#include "samples/training.h"

#include <fmt/format.h>
#include <torch/torch.h>
#include <zlib.h>

#include <charconv>
#include <numbers>

#include "core/ops/operator.h"
#include "core/support/error.h"

namespace espq::samples {
namespace {

constexpr int64_t kImageSize = 8, kGreyLevels = 16, kClasses = 10;
constexpr double kSpread = 3;         // small_digits: channels are scaled by 2^-3 to 2^3
constexpr int64_t kTestImages = 497;  // of 1,797; the others train and calibrate

// ------------------------------------------------------------------------------------------------ training

/// Runs `epochs` passes of Adam with a one-cycle learning rate over random batches.
template <typename Loss>
void fit(torch::nn::Sequential& network, const at::Tensor& inputs, const at::Tensor& targets, int64_t epochs,
         int64_t batch_size, double learning_rate, Loss loss) {
  torch::set_num_threads(1);  // networks this small only lose by sharing the work
  torch::optim::Adam optimizer(network->parameters(), torch::optim::AdamOptions(learning_rate));
  const int64_t batches = inputs.size(0) / batch_size, steps = epochs * batches;
  network->train();
  for (int64_t epoch = 0, step = 0; epoch < epochs; ++epoch) {
    const at::Tensor order = torch::randperm(inputs.size(0));
    for (int64_t batch = 0; batch < batches; ++batch, ++step) {
      const double rate = 0.5 * learning_rate * (1 + std::cos(std::numbers::pi * step / steps));
      static_cast<torch::optim::AdamOptions&>(optimizer.param_groups()[0].options()).lr(rate);
      const at::Tensor rows = order.slice(0, batch * batch_size, (batch + 1) * batch_size);
      optimizer.zero_grad();
      loss(network->forward(inputs.index_select(0, rows)), targets.index_select(0, rows)).backward();
      optimizer.step();
    }
  }
  network->eval();
}

/// The first `count` rows, one per batch.
Dataset make_calibration(const at::Tensor& rows, int64_t count) {
  std::vector<Dataset::Batch> data;
  for (int64_t i = 0; i < count; ++i) data.push_back({{"", rows.slice(0, i, i + 1)}});
  return Dataset(std::move(data));
}

// ------------------------------------------------------------------------------------------------ graph

/// Writes a feed-forward network down as an espq graph, layer by layer.
class GraphWriter {
 public:
  GraphWriter(Graph& graph, Shape input_shape) : graph_(graph), current_(&graph.add_variable("input")) {
    current_->set_shape(std::move(input_shape));
    graph_.add_input(*current_);
  }
  void add(const std::string& type, const std::string& name, AttributeMap attributes = {},
           const std::vector<std::pair<std::string, at::Tensor>>& parameters = {}) {
    std::vector<Variable*> inputs{current_};
    for (const auto& [parameter, value] : parameters) {
      inputs.push_back(&graph_.add_parameter(fmt::format("{}.{}", name, parameter), value.detach().clone()));
    }
    current_ = &graph_.add_variable(name + ".output");
    normalize_attributes(graph_.add_operation(type, name, inputs, {current_}, std::move(attributes)));
  }
  void finish() {
    graph_.rename(*current_, "output");
    graph_.add_output(*current_);
  }

 private:
  Graph& graph_;
  Variable* current_;
};

void write_linear(GraphWriter& writer, const std::string& name, const torch::nn::LinearImpl& layer) {
  writer.add("Gemm", name, {{"transB", int64_t{1}}}, {{"weight", layer.weight}, {"bias", layer.bias}});
}

void write_convolution(GraphWriter& writer, const std::string& name, const torch::nn::Conv2dImpl& layer) {
  const int64_t size = layer.weight.size(2), pad = size / 2;
  writer.add("Conv", name,
             {{"kernel_shape", std::vector<int64_t>{size, size}},
              {"pads", std::vector<int64_t>{pad, pad, pad, pad}},
              {"group", layer.options.groups()}},
             {{"weight", layer.weight}, {"bias", layer.bias}});
}

void write_batch_norm(GraphWriter& writer, const std::string& name, const torch::nn::BatchNorm2dImpl& layer) {
  writer.add("BatchNormalization", name, {{"epsilon", static_cast<float>(layer.options.eps())}},
             {{"weight", layer.weight},
              {"bias", layer.bias},
              {"running_mean", layer.running_mean},
              {"running_var", layer.running_var}});
}

/// One graph operation per layer; names are the positions in the network.
void write_network(Graph& graph, const std::string& name, Shape input_shape, const torch::nn::Sequential& network) {
  graph.name = name;
  GraphWriter writer(graph, std::move(input_shape));
  size_t position = 0;
  for (const auto& module : network->children()) {
    const std::string layer = "layer" + std::to_string(position++);
    if (const auto* linear = module->as<torch::nn::Linear>()) {
      write_linear(writer, layer, *linear);
    } else if (const auto* convolution = module->as<torch::nn::Conv2d>()) {
      write_convolution(writer, layer, *convolution);
    } else if (const auto* norm = module->as<torch::nn::BatchNorm2d>()) {
      write_batch_norm(writer, layer, *norm);
    } else if (module->as<torch::nn::ReLU>()) {
      writer.add("Relu", layer);
    } else if (module->as<torch::nn::MaxPool2d>()) {
      writer.add("MaxPool", layer,
                 {{"kernel_shape", std::vector<int64_t>{2, 2}}, {"strides", std::vector<int64_t>{2, 2}}});
    } else {
      internal_check(module->as<torch::nn::Flatten>() != nullptr, "a layer that write_network does not know");
      writer.add("Flatten", layer, {{"axis", int64_t{1}}});
    }
  }
  writer.finish();
}

// ------------------------------------------------------------------------------------------------ digits

std::string read_gzip(const std::filesystem::path& file) {
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> stream(gzopen(file.c_str(), "rb"), gzclose);
  user_check(stream != nullptr, "{}: cannot be opened", file.string());
  std::string text;
  char buffer[1 << 16];
  int count = 0;
  while ((count = gzread(stream.get(), buffer, sizeof(buffer))) > 0) text.append(buffer, static_cast<size_t>(count));
  user_check(count == 0, "{}: is not a gzip file or is damaged", file.string());
  return text;
}

/// One row per line: the pixels and the label.
at::Tensor read_digits(const std::filesystem::path& file) {
  const std::string text = read_gzip(file);
  std::vector<float> numbers;
  for (const char* position = text.data(); position < text.data() + text.size(); ++position) {
    int value = 0;
    const auto [next, status] = std::from_chars(position, text.data() + text.size(), value);
    user_check(status == std::errc(), "{}: a line holds something else than numbers", file.string());
    numbers.push_back(static_cast<float>(value));
    position = next;  // a comma or a line break
  }
  constexpr int64_t columns = kImageSize * kImageSize + 1;
  user_check(numbers.size() % columns == 0 && numbers.size() / columns > kTestImages,
             "{}: expected lines of {} numbers", file.string(), columns);
  return torch::tensor(numbers).reshape({-1, columns});
}

}  // namespace

TrainedNetwork train_sine() {
  torch::manual_seed(1);
  const double period = 2 * std::numbers::pi;
  const at::Tensor inputs = torch::rand({2000, 1}) * period;
  torch::nn::Sequential network(torch::nn::Linear(1, 32), torch::nn::ReLU(), torch::nn::Linear(32, 32),
                                torch::nn::ReLU(), torch::nn::Linear(32, 1));
  fit(network, inputs, inputs.sin(), 200, 64, 1e-2,
      [](const at::Tensor& output, const at::Tensor& target) { return torch::mse_loss(output, target); });

  torch::NoGradGuard no_gradients;
  TrainedNetwork result;
  write_network(result.graph, "sine", {1, 1}, network);
  result.calibration = make_calibration(inputs, 256);
  result.test_inputs = torch::linspace(0, period, 500).reshape({-1, 1});
  result.test_targets = result.test_inputs.sin();
  result.test_outputs = network->forward(result.test_inputs);
  return result;
}

Digits load_digits(const std::filesystem::path& digits) {
  torch::manual_seed(1);
  at::Tensor table = read_digits(digits);
  table = table.index_select(0, torch::randperm(table.size(0)));
  const at::Tensor images =
      table.slice(1, 0, kImageSize * kImageSize).reshape({-1, 1, kImageSize, kImageSize}) / double(kGreyLevels);
  const at::Tensor labels = table.select(1, kImageSize * kImageSize).to(at::kLong);
  const int64_t training = images.size(0) - kTestImages;
  return {images.slice(0, 0, training), labels.slice(0, 0, training), images.slice(0, training),
          labels.slice(0, training)};
}

namespace {

/// Trains, and writes the network down with what quantizing and judging it takes.
TrainedNetwork train_on_digits(const Digits& digits, const std::string& name, torch::nn::Sequential network,
                               int64_t epochs) {
  fit(network, digits.train_images, digits.train_labels, epochs, 32, 1e-2,
      [](const at::Tensor& output, const at::Tensor& target) { return torch::cross_entropy_loss(output, target); });
  torch::NoGradGuard no_gradients;
  TrainedNetwork result;
  write_network(result.graph, name, {1, 1, kImageSize, kImageSize}, network);
  result.calibration = make_calibration(digits.train_images, 256);
  result.test_inputs = digits.test_images;
  result.test_targets = digits.test_labels;
  result.test_outputs = network->forward(result.test_inputs);
  return result;
}

torch::nn::Conv2d convolution(int64_t in, int64_t out, int64_t size = 3, int64_t groups = 1) {
  return torch::nn::Conv2d(torch::nn::Conv2dOptions(in, out, size).padding(size / 2).groups(groups));
}

}  // namespace

TrainedNetwork train_digits(const std::filesystem::path& digits) {
  const Digits data = load_digits(digits);
  return train_on_digits(
      data, "digits",
      torch::nn::Sequential(convolution(1, 16), torch::nn::BatchNorm2d(16), torch::nn::ReLU(), torch::nn::MaxPool2d(2),
                            convolution(16, 32), torch::nn::BatchNorm2d(32), torch::nn::ReLU(), torch::nn::MaxPool2d(2),
                            torch::nn::Flatten(), torch::nn::Linear(128, kClasses)),
      20);
}

TrainedNetwork train_small_digits(const Digits& digits, int64_t epochs) {
  torch::manual_seed(2);
  using torch::nn::BatchNorm2d;
  using torch::nn::ReLU;
  torch::nn::Sequential network(convolution(1, 8), BatchNorm2d(8), ReLU(), convolution(8, 8, 3, 8), BatchNorm2d(8),
                                ReLU(), convolution(8, 12, 1), BatchNorm2d(12), ReLU(), torch::nn::MaxPool2d(2),
                                convolution(12, 12, 3, 12), BatchNorm2d(12), ReLU(), convolution(12, 12, 1),
                                BatchNorm2d(12), ReLU(), torch::nn::MaxPool2d(2), torch::nn::Flatten(),
                                torch::nn::Linear(48, kClasses));
  TrainedNetwork result = train_on_digits(digits, "small_digits", network, epochs);
  // Channels of very different size, as large networks of depthwise convolutions have them: what BatchNormalization
  // gives is multiplied, the filters behind it are divided; a Relu in between lets both cancel out.
  const at::Tensor factors = at::exp2(at::linspace(-kSpread, kSpread, 8));
  const auto scale = [&](const char* name, const at::Tensor& by) {
    Variable& parameter = *result.graph.find_variable(name);
    parameter.set_value(parameter.value() * (parameter.value().dim() == 4 ? by.reshape({-1, 1, 1, 1}) : by));
  };
  scale("layer1.weight", factors);
  scale("layer1.bias", factors);
  scale("layer3.weight", 1 / factors);
  return result;
}

}  // namespace espq::samples
