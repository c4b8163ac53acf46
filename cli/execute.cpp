#include <c10/util/Exception.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <iostream>
#include <new>

#include "cli/verbs.h"
#include "core/support/error.h"

namespace espq::cli {
namespace {

struct Dispatch {
  int operator()(const QuantizeCommand& command) const { return quantize(command); }
  int operator()(const CheckCommand& command) const { return check(command); }
  int operator()(const RunCommand& command) const { return run(command); }
  int operator()(const EvaluateCommand& command) const { return evaluate(command); }
  int operator()(const ImportCommand& command) const { return import(command); }
  int operator()(const InspectCommand& command) const { return inspect(command); }
  int operator()(const DiffCommand& command) const { return diff(command); }
  int operator()(const VerifyCommand& command) const { return verify(command); }
  int operator()(const CompareCommand& command) const { return compare(command); }
  int operator()(const OpsCommand& command) const { return ops(command); }
};

int fail(std::string_view kind, std::string_view what) {
  std::cout.flush();
  std::cerr << "espq: " << kind << what << std::endl;
  return kFailure;
}

}  // namespace
}  // namespace espq::cli

int espq_execute(const espq::cli::CommandLine& line) {
  using namespace espq;
  constexpr std::string_view internal = "internal error, please report it: ";
  // Results go to the output stream, everything else to the error stream.
  spdlog::set_default_logger(spdlog::stderr_logger_st("espq"));
  spdlog::set_pattern("espq: %l: %v");
  spdlog::set_level(line.verbose ? spdlog::level::debug : spdlog::level::warn);
  try {
    return std::visit(cli::Dispatch{}, line.command);
  } catch (const UserError& error) {
    return cli::fail("error: ", error.what());
  } catch (const c10::Error& error) {
    return cli::fail(internal, error.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    return cli::fail("error: ", "out of memory");
  } catch (const std::exception& error) {
    return cli::fail(internal, error.what());
  }
}
