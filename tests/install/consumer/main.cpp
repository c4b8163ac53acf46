#include <espq/core/ops/operator.h>
#include <espq/core/support/error.h>
#include <espq/onnx_frontend/onnx_frontend.h>

#include <iostream>

int main(int, char** arguments) try {
  std::cout << espq::operators().find("Conv")->name << "\n";
  espq::import_onnx(arguments[1]);
} catch (const espq::UserError& error) {
  std::cout << error.what() << "\n";
}
