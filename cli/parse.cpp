#include "cli/parse.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <functional>
#include <iostream>
#include <stdexcept>

namespace espq::cli {
namespace {

template <typename Value, typename Parse>
CLI::Option* add_list(CLI::App* verb, const std::string& name, std::vector<Value>& values, Parse parse,
                      const std::string& form, const std::string& help) {
  return verb
      ->add_option_function<std::vector<std::string>>(
          name,
          [&values, parse, name](const std::vector<std::string>& texts) {
            for (const std::string& text : texts) {
              try {
                values.push_back(parse(text));
              } catch (const std::invalid_argument& error) {
                throw CLI::ValidationError(name, error.what());
              }
            }
          },
          help)
      ->expected(1, CLI::detail::expected_max_vector_size)
      ->type_name(form);
}

/// One value that `parse` makes of a word.
CLI::Option* add_word(CLI::App* verb, const std::string& name, const std::function<void(const std::string&)>& parse,
                      const std::string& form, const std::string& help) {
  return verb
      ->add_option_function<std::string>(
          name,
          [parse, name](const std::string& text) {
            try {
              parse(text);
            } catch (const std::invalid_argument& error) {
              throw CLI::ValidationError(name, error.what());
            }
          },
          help)
      ->type_name(form);
}

/// What makes samples of images.
void add_image_options(CLI::App* verb, ImageOptions& images) {
  CLI::Option* resize = add_word(
      verb, "--resize",
      [&images](const std::string& text) {
        const PixelSize size = parse_pixel_size(text);
        if (text.find('x') == std::string::npos)
          images.resize_shorter = size.width;
        else
          images.resize = size;
      },
      "N|WxH", "Images: the shorter side to N pixels, or to width x height");
  CLI::Option* crop = add_word(
      verb, "--crop", [&images](const std::string& text) { images.crop = parse_pixel_size(text); }, "N|WxH",
      "Images: this much from the middle, after --resize");
  add_word(
      verb, "--letterbox", [&images](const std::string& text) { images.letterbox = parse_pixel_size(text); }, "N|WxH",
      "Images: as large as they fit, the rest gray (114)")
      ->excludes(resize)
      ->excludes(crop);
  add_list(verb, "--mean", images.mean, parse_number, "NUMBER",
           "Images: the network takes (pixel - mean) * scale of pixels from 0 to 255; one, or one per channel");
  add_list(verb, "--scale", images.scale, parse_number, "NUMBER", "Images: see --mean; 1/255 is a number, too");
  verb->add_option("--color", "Images: channels of the network, rgb by default")
      ->check(CLI::IsMember({"rgb", "bgr", "gray"}))
      ->each([&images](const std::string& text) {
        images.color = text == "bgr"    ? ImageOptions::Color::Bgr
                       : text == "gray" ? ImageOptions::Color::Gray
                                        : ImageOptions::Color::Rgb;
      })
      ->type_name("rgb|bgr|gray");
  verb->add_option("--layout", "Images: order of dimensions of the network's input, nchw by default")
      ->check(CLI::IsMember({"nchw", "nhwc"}))
      ->each([&images](const std::string& text) { images.channels_last = text == "nhwc"; })
      ->type_name("nchw|nhwc");
}

constexpr const char* kDataFiles = ": .npy or image (one input), .npz (named inputs), or folders of these";

CLI::Option* add_data(CLI::App* verb, const std::string& name, const std::string& what,
                      std::vector<std::filesystem::path>& paths, DataOptions& options) {
  add_image_options(verb, options.image);
  return verb->add_option(name, paths, what + kDataFiles)
      ->expected(1, CLI::detail::expected_max_vector_size)
      ->type_name("DIR_OR_FILE");
}

void add_batch_size(CLI::App* verb, DataOptions& options) {
  verb->add_option("--batch-size", options.batch, "Cut files that hold more samples (default: one file is one batch)")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
}

void add_shapes(CLI::App* verb, std::vector<NamedShape>& shapes) {
  add_list(verb, "--input-shape", shapes, parse_named_shape, "NAME=1x3x48x48",
           "Shapes of inputs that the model leaves open; NAME=1x16:int64 gives the element type, too (.pt)");
}

void add_recipe(CLI::App* verb, RecipeChoice& choice) {
  verb->add_option("--recipe", choice.recipe,
                   "Options of the conversion: a JSON file, or the name of a recipe that comes with espq")
      ->type_name("FILE.json|NAME");
  verb->add_option("--set", choice.settings, "Options that overrule the recipe, for example calibration.steps=8")
      ->expected(1, CLI::detail::expected_max_vector_size)
      ->type_name("PATH=VALUE");
}

void add_access(CLI::App* verb, EspdlAccess& access) {
  verb->add_option("--key", access.key, "Key of an encrypted .espdl file: 32 hexadecimal digits")->type_name("KEY");
  verb->add_option("--entry", access.entry, "Model of a package: name or position")->type_name("NAME");
}

void add_accesses(CLI::App* verb, EspdlAccesses& files) {
  verb->add_option("--key", files.keys, "Keys of encrypted files: one for both, or one each")
      ->expected(1, 2)
      ->type_name("KEY");
  verb->add_option("--entry", files.entries, "Models of packages: one for both, or one each")
      ->expected(1, 2)
      ->type_name("NAME");
}

void add_quantize(CLI::App& app, Command& command) {
  auto options = std::make_shared<QuantizeCommand>();
  CLI::App* verb = app.add_subcommand("quantize", "Turn a float model (.onnx, .pt, .pt2) into an integer .espdl file");
  verb->add_option("MODEL", options->model,
                   "Float model: .onnx, .pt (TorchScript) or .pt2 (torch.export); never changed")
      ->required()
      ->type_name("");
  verb->add_option("--target", options->target, "Chip: esp32p4, esp32s31, esp32s3, c, esp32,")
      ->required()
      ->type_name("NAME");
  verb->add_option("--bits", options->bits, "Width of weights and activations (default: 8, or what the recipe says)")
      ->check(CLI::IsMember({8, 16}))
      ->type_name("8|16");
  CLI::Option* data =
      add_data(verb, "--calib", "Calibration data, one batch per file", options->calibration, options->data);
  verb->add_option("--mirror", "Pictures that may be seen from left or right: calibrate with their mirror images, too")
      ->check(CLI::IsMember({"nchw", "nhwc"}))
      ->each([options](const std::string& text) { options->mirror_axis = text == "nhwc" ? -2 : -1; })
      ->needs(data)
      ->type_name("nchw|nhwc");
  CLI::Option* drawn =
      add_word(
          verb, "--calib-random", [options](const std::string& text) { options->drawn = parse_drawn_inputs(text); },
          "normal|LOW..HIGH", "No data at hand: draw inputs. A last resort, ranges come out as chance wants them")
          ->excludes(data);
  verb->add_option("--distill", options->distill,
                   "Move drawn inputs in N steps until the network's BatchNormalizations see what they saw in training")
      ->check(CLI::PositiveNumber)
      ->needs(drawn)
      ->type_name("N");
  verb->add_option("--load-quantization", options->load_quantization,
                   "Take exponents and widths from a .json file of espq or esp-ppq instead of calibrating")
      ->type_name("FILE.json");
  add_batch_size(verb, options->data);
  verb->add_option("--steps", options->steps, "Calibration batches to use (default: all)")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  add_shapes(verb, options->input_shapes);
  add_recipe(verb, options->recipe);
  CLI::Option* inputs = add_list(verb, "--test-input", options->test_inputs, parse_named_file, "NAME=FILE.npy",
                                 "Inputs recorded in the file with the chip's answer");
  verb->add_option("--test-values", "Record random test inputs with the chip's answer")
      ->check(CLI::IsMember({"random"}))
      ->each([options](const std::string&) { options->random_test_values = true; })
      ->excludes(inputs)
      ->type_name("random");
  verb->add_option("--seed", options->seed, "Seed of the random test inputs")->capture_default_str()->type_name("S");
  verb->add_flag("--allow-missing-kernels", options->allow_missing_kernels,
                 "Write operators that the chip library does not have: your application registers them");
  const CLI::Option* encrypt =
      verb->add_option("--encrypt", options->key, "Encrypt the model; prints the key when none is given")
          ->expected(0, 1)
          ->type_name("[KEY]");
  verb->add_option("--analysis", options->analysis, "Write graph-wise, layer-wise and statistical errors as JSON")
      ->type_name("FILE.json");
  verb->add_option("--analysis-batches", options->analysis_batches, "Calibration batches that error analyses use")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->type_name("N");
  verb->add_flag("--quiet", options->quiet, "No progress, no report");
  verb->add_option("--out", options->out, "File to write; .info, .json and .options.json are written beside it")
      ->required()
      ->type_name("OUT.espdl");
  verb->callback([options, encrypt, data, &command] {
    if (data->empty() && !options->drawn && options->load_quantization.empty())
      throw CLI::RequiredError("--calib (or --load-quantization, or --calib-random)");
    options->encrypt = !encrypt->empty();
    command = *options;
  });
}

void add_check(CLI::App& app, Command& command) {
  auto options = std::make_shared<CheckCommand>();
  CLI::App* verb = app.add_subcommand(
      "check", "Tell of every operation whether the chip runs it; exit code 0 only if it runs all of them");
  verb->add_option("MODEL", options->model, "Float model (.onnx, .pt, .pt2), or an .espdl file of any origin")
      ->required()
      ->type_name("");
  verb->add_option("--target", options->target, "Chip (default: the recipe's, or what the file tells)")
      ->type_name("NAME");
  verb->add_option("--runtime-level", options->runtime_level, "Chip library: 3.3.9 (the default) or newer")
      ->type_name("LEVEL");
  verb->add_option("--bits", options->bits, "Width of weights and activations (default: 8, or what the recipe says)")
      ->check(CLI::IsMember({8, 16}))
      ->type_name("8|16");
  add_shapes(verb, options->input_shapes);
  add_recipe(verb, options->recipe);
  add_access(verb, options->access);
  verb->add_flag("--allow-missing-kernels", options->allow_missing_kernels,
                 "Operators that the chip library does not have are registered by the application");
  verb->add_flag("--json", options->json, "As JSON");
  verb->callback([options, &command] { command = *options; });
}

/// How a model is opened: of verbs that run one, float or .espdl.
template <typename Options>
void add_choice(CLI::App* verb, Options& options) {
  verb->add_option("--precision", options.precision, "Default: board for .espdl, float for float models")
      ->check(CLI::IsMember({"float", "simulated", "board"}))
      ->type_name("float|simulated|board");
  verb->add_option("--target", options.target, "Chip of an .espdl file that does not tell it")->type_name("NAME");
  add_shapes(verb, options.input_shapes);
  add_access(verb, options.access);
}

void add_run(CLI::App& app, Command& command) {
  auto options = std::make_shared<RunCommand>();
  CLI::App* verb = app.add_subcommand("run", "Run a float model or a .espdl file on the PC");
  verb->add_option("MODEL", options->model, "MODEL.onnx, .pt, .pt2 or .espdl")->required()->type_name("");
  add_list(verb, "--input", options->inputs, parse_named_file, "NAME=FILE.npy",
           "Arrays or images; .espdl: integers or floats in the layout of the file")
      ->required();
  add_image_options(verb, options->data.image);
  verb->add_option("--out-dir", options->out_dir, "Folder for NAME.npy of every output")->required()->type_name("DIR");
  add_choice(verb, *options);
  verb->callback([options, &command] { command = *options; });
}

void add_evaluate(CLI::App& app, Command& command) {
  auto options = std::make_shared<EvaluateCommand>();
  CLI::App* verb = app.add_subcommand("evaluate", "Run a model on a folder of samples and measure what it answers");
  verb->add_option("MODEL", options->model, "MODEL.onnx, .pt, .pt2 or .espdl")->required()->type_name("");
  add_data(verb, "--inputs", "Samples", options->inputs, options->data)->required();
  verb->add_option("--out-dir", options->out_dir, "Folder for STEM/OUTPUT.npy of every sample")->type_name("DIR");
  verb->add_flag("--integers", options->integers,
                 "Results (and inputs of their type) are the integers of the .espdl file");
  verb->add_flag("--chip-layout", options->chip_layout,
                 "Samples and results have the .espdl file's order of dimensions, not the float model's");
  verb->add_option("--threads", options->threads, "Samples to run at once (default: as many as there are cores)")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  verb->add_option("--metric", options->metrics,
                   "Figures to print: accuracy, agreement, snr, or a program that gets the folder and prints a number")
      ->expected(1, CLI::detail::expected_max_vector_size)
      ->type_name("accuracy|agreement|snr|PROGRAM");
  verb->add_option("--labels", options->labels, "Class numbers for accuracy: .npy, .json or text")->type_name("FILE");
  verb->add_option("--reference", options->reference, "Model to compare with, for agreement and snr")
      ->type_name("MODEL");
  add_choice(verb, *options);
  verb->add_flag("--quiet", options->quiet, "No progress, figures only");
  verb->callback([options, &command] { command = *options; });
}

void add_import(CLI::App& app, Command& command) {
  auto options = std::make_shared<ImportCommand>();
  CLI::App* verb = app.add_subcommand("import", "Show the network that is quantized, with the names that recipes use");
  verb->add_option("MODEL", options->model, "Float model: .onnx, .pt (TorchScript) or .pt2 (torch.export)")
      ->required()
      ->type_name("");
  add_shapes(verb, options->input_shapes);
  add_recipe(verb, options->recipe);
  verb->add_flag("--as-imported", options->as_imported, "Show what the file becomes before it is simplified");
  add_list(verb, "--input", options->inputs, parse_named_file, "NAME=FILE.npy",
           "Example inputs; they give shapes and types, too");
  verb->add_flag("--check", options->check, "Compare every operator and the outputs with LibTorch (.pt, .pt2)");
  verb->add_flag("--json", options->json, "As JSON");
  verb->callback([options, &command] { command = *options; });
}

void add_inspect(CLI::App& app, Command& command) {
  auto options = std::make_shared<InspectCommand>();
  CLI::App* verb = app.add_subcommand("inspect", "Show graph, types, exponents, layouts, sizes and test values");
  verb->add_option("MODEL.espdl", options->model)->required()->type_name("");
  verb->add_flag("--json", options->json, "As JSON");
  add_access(verb, options->access);
  verb->callback([options, &command] { command = *options; });
}

void add_diff(CLI::App& app, Command& command) {
  auto options = std::make_shared<DiffCommand>();
  CLI::App* verb = app.add_subcommand("diff", "Compare two .espdl files by structure; exit code 0 only if equal");
  verb->add_option("A.espdl", options->first)->required()->type_name("");
  verb->add_option("B.espdl", options->second)->required()->type_name("");
  add_accesses(verb, options->files);
  verb->add_flag("--json", options->json, "As JSON");
  verb->callback([options, &command] { command = *options; });
}

void add_verify(CLI::App& app, Command& command) {
  auto options = std::make_shared<VerifyCommand>();
  CLI::App* verb =
      app.add_subcommand("verify", "Run the recorded test inputs in Board precision; exit code 0 only if equal");
  verb->add_option("MODEL.espdl", options->model)->required()->type_name("");
  verb->add_option("--target", options->target, "Chip of a file that does not tell it")->type_name("NAME");
  add_access(verb, options->access);
  verb->callback([options, &command] { command = *options; });
}

void add_compare(CLI::App& app, Command& command) {
  auto options = std::make_shared<CompareCommand>();
  CLI::App* verb =
      app.add_subcommand("compare", "Run two models, or one at two precisions, and show where they differ");
  verb->add_option("A", options->first, "The reference: a float model or a .espdl file")->required()->type_name("");
  verb->add_option("B", options->second, "A float model or a .espdl file")->required()->type_name("");
  add_data(verb, "--inputs", "Data, one batch per file", options->inputs, options->data)->required();
  add_batch_size(verb, options->data);
  verb->add_option("--batches", options->batches, "Batches to use (default: all)")
      ->check(CLI::PositiveNumber)
      ->type_name("N");
  const auto add_precision = [verb](const char* name, std::string& precision) {
    verb->add_option(name, precision, "Default: board for .espdl, float for other models")
        ->check(CLI::IsMember({"float", "simulated", "board"}))
        ->type_name("float|simulated|board");
  };
  add_precision("--precision-a", options->first_precision);
  add_precision("--precision-b", options->second_precision);
  verb->add_option("--target", options->target, "Chip of .espdl files that do not tell it")->type_name("NAME");
  add_shapes(verb, options->input_shapes);
  add_recipe(verb, options->recipe);
  add_accesses(verb, options->files);
  verb->add_flag("--per-layer", options->per_layer, "Also compare every layer that both have");
  verb->add_option("--json", options->json, "Write everything as JSON")->type_name("FILE.json");
  verb->add_option("--html", options->html, "Write a report to look at in a browser")->type_name("FILE.html");
  verb->add_flag("--quiet", options->quiet, "No progress, no report");
  verb->callback([options, &command] { command = *options; });
}

void add_ops(CLI::App& app, Command& command) {
  auto options = std::make_shared<OpsCommand>();
  CLI::App* verb = app.add_subcommand("ops", "List the operators and what the chip library accepts");
  verb->add_option("--target", options->target, "Only what this chip runs, with the limits that it has")
      ->type_name("NAME");
  verb->add_option("--runtime-level", options->runtime_level, "Of this chip library: 3.3.9 (the default) or newer")
      ->type_name("LEVEL");
  CLI::Option* json = verb->add_flag("--json", options->json, "As JSON");
  verb->add_flag("--markdown", options->markdown, "As the page docs/operators.md")->excludes(json);
  verb->callback([options, &command] { command = *options; });
}

}  // namespace

NamedShape parse_named_shape(const std::string& text) {
  // Names may contain '=', shapes do not.
  const size_t equal = text.rfind('=');
  const size_t colon = text.find(':', equal == std::string::npos ? 0 : equal);
  if (equal == std::string::npos || equal == 0 || equal + 1 == text.size()) {
    throw std::invalid_argument("'" + text + "' is not NAME=SHAPE, for example input=1x3x48x48");
  }
  NamedShape shape{text.substr(0, equal), {}};
  const char* position = text.data() + equal + 1;
  const char* const end = text.data() + std::min(colon, text.size());
  if (colon != std::string::npos) shape.type = text.substr(colon + 1);
  while (true) {
    int64_t dim = 0;
    const auto [next, status] = std::from_chars(position, end, dim);
    if (status != std::errc() || dim <= 0 || (next != end && *next != 'x')) {
      throw std::invalid_argument("'" + text + "': a shape is positive numbers joined by 'x', for example 1x3x48x48");
    }
    shape.dims.push_back(dim);
    if (next == end) return shape;
    position = next + 1;
  }
}

PixelSize parse_pixel_size(const std::string& text) {
  const size_t cross = text.find('x');
  const auto length = [&](std::string_view word) {
    int64_t value = 0;
    const auto [end, status] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (status != std::errc() || end != word.data() + word.size() || value <= 0 || value > 1 << 20)
      throw std::invalid_argument("'" + text + "' is no size in pixels, for example 224 or 320x240 (width x height)");
    return value;
  };
  const std::string_view whole = text;
  if (cross == std::string::npos) return {length(whole), length(whole)};
  return {length(whole.substr(0, cross)), length(whole.substr(cross + 1))};
}

double parse_number(const std::string& text) {
  const auto number = [&](std::string_view word) {
    double value = 0;
    const auto [end, status] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (status != std::errc() || end != word.data() + word.size() || !std::isfinite(value))
      throw std::invalid_argument("'" + text + "' is no number, for example 0.25 or 1/255");
    return value;
  };
  const size_t slash = text.find('/');
  const std::string_view whole = text;
  if (slash == std::string::npos) return number(whole);
  const double divisor = number(whole.substr(slash + 1));
  if (divisor == 0) throw std::invalid_argument("'" + text + "' divides by 0");
  return number(whole.substr(0, slash)) / divisor;
}

DrawnInputs parse_drawn_inputs(const std::string& text) {
  DrawnInputs drawn;
  if (text == "normal") return drawn;
  const size_t dots = text.find("..");
  if (dots == std::string::npos) throw std::invalid_argument("'" + text + "' is neither normal nor LOW..HIGH");
  drawn.range = {parse_number(text.substr(0, dots)), parse_number(text.substr(dots + 2))};
  if (!(drawn.range->first < drawn.range->second)) throw std::invalid_argument("'" + text + "' is no range of numbers");
  return drawn;
}

NamedFile parse_named_file(const std::string& text) {
  const size_t equal = text.find('=');
  if (equal == std::string::npos || equal == 0 || equal + 1 == text.size()) {
    throw std::invalid_argument("'" + text + "' is not NAME=FILE.npy");
  }
  return {text.substr(0, equal), text.substr(equal + 1)};
}

std::variant<CommandLine, int> parse_command_line(int argc, const char* const* argv) {
  CLI::App app("espq quantizes neural networks for Espressif's ESP-DL chips.", "espq");
  app.set_version_flag("--version", "espq " ESPQ_VERSION);
  app.require_subcommand(1);
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return std::string("espq: ") + error.what() + "\nRun 'espq --help' or 'espq VERB --help'.\n";
  });
  CommandLine line;
  for (auto add : {add_quantize, add_check, add_run, add_evaluate, add_import, add_inspect, add_diff, add_verify,
                   add_compare, add_ops})
    add(app, line.command);
  for (CLI::App* verb : app.get_subcommands({}))
    verb->add_flag("-v,--verbose", line.verbose, "Show every pass with its time and what it changed");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kSuccess : kUsage;
  }
  return line;
}

}  // namespace espq::cli
