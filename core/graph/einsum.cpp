#include "core/graph/einsum.h"

#include <fmt/ranges.h>

#include <map>

#include "core/support/error.h"

namespace espq {
namespace {

using Integers = std::vector<int64_t>;

/// A tensor with a letter for each of its axes.
struct Term {
  std::string letters;
  Variable* value;
  Shape shape;

  int64_t size(char letter) const { return shape[letters.find(letter)]; }
  bool has(char letter) const { return letters.find(letter) != std::string::npos; }
};

struct Equation {
  std::vector<std::string> operands;
  std::string result;
};

constexpr std::string_view kDots = "...";

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char character : text)
    if (character == separator)
      parts.emplace_back();
    else
      parts.back() += character;
  return parts;
}

/// Letters that stand once in all operands, in the order of the alphabet.
std::string implied_result(const std::vector<std::string>& operands) {
  std::map<char, int> times;
  bool dots = false;
  for (const std::string& letters : operands) {
    dots |= letters.find(kDots) != std::string::npos;
    for (const char letter : letters)
      if (letter != '.') ++times[letter];
  }
  std::string result = dots ? std::string(kDots) : std::string();
  for (const auto& [letter, count] : times)
    if (count == 1) result += letter;
  return result;
}

/// Axes behind "..." count from the right; they have characters that no equation has.
std::string letters_of_dots(size_t axes) {
  std::string letters;
  for (size_t i = axes; i-- > 0;) letters += static_cast<char>('0' + i);
  return letters;
}

void replace_dots(std::string& letters, size_t axes) {
  if (const size_t at = letters.find(kDots); at != std::string::npos)
    letters.replace(at, kDots.size(), letters_of_dots(axes));
}

Equation parse(const std::string& text, const std::vector<EinsumOperand>& operands) {
  const size_t arrow = text.find("->");
  Equation equation{split(text.substr(0, arrow), ','), {}};
  user_check(equation.operands.size() == operands.size(), "'{}': names {} operands, has {}", text,
             equation.operands.size(), operands.size());
  equation.result = arrow == std::string::npos ? implied_result(equation.operands) : text.substr(arrow + 2);
  size_t longest = 0;
  for (size_t i = 0; i < operands.size(); ++i) {
    std::string& letters = equation.operands[i];
    const size_t rank = operands[i].shape.size();
    const bool dots = letters.find(kDots) != std::string::npos;
    const size_t named = letters.size() - (dots ? kDots.size() : 0);
    user_check(dots ? named <= rank : named == rank, "'{}': operand {} has {} dimensions", text, i, rank);
    longest = std::max(longest, dots ? rank - named : 0);
    replace_dots(letters, rank - named);
  }
  replace_dots(equation.result, longest);
  return equation;
}

/// Every letter has one size; only what "..." stands for may be 1 in some operands.
std::map<char, int64_t> sizes_of(const std::string& text, const std::vector<Term>& terms) {
  std::map<char, int64_t> sizes;
  for (const Term& term : terms)
    for (size_t axis = 0; axis < term.letters.size(); ++axis) {
      int64_t& size = sizes.emplace(term.letters[axis], term.shape[axis]).first->second;
      const bool broadcasts =
          std::isdigit(static_cast<unsigned char>(term.letters[axis])) && (size == 1 || term.shape[axis] == 1);
      user_check(size == term.shape[axis] || broadcasts, "'{}': one letter stands for axes of {} and {} elements", text,
                 size, term.shape[axis]);
      size = std::max(size, term.shape[axis]);
    }
  return sizes;
}

int64_t product(const Shape& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

class Writer {
 public:
  explicit Writer(OperationWriter& writer) : writer_(writer) {}

  Term reshaped(Term term, const std::string& letters, const Shape& shape) {
    if (term.shape != shape) term.value = writer_.emit("Reshape", {term.value, writer_.integers("shape", shape)}, {});
    return {letters, term.value, shape};
  }

  Term reorder(Term term, const std::string& letters) {
    if (term.letters == letters) return term;
    Integers order;
    Shape shape;
    for (const char letter : letters) {
      order.push_back(static_cast<int64_t>(term.letters.find(letter)));
      shape.push_back(term.size(letter));
    }
    return {letters, writer_.emit("Transpose", {term.value}, {{"perm", order}}), shape};
  }

  /// Axes of one element that are longer elsewhere: as if the operand did not have them.
  Term without_broadcast_axes(Term term, const std::map<char, int64_t>& sizes) {
    std::string letters;
    Shape shape;
    for (size_t axis = 0; axis < term.letters.size(); ++axis)
      if (term.shape[axis] == sizes.at(term.letters[axis])) {
        letters += term.letters[axis];
        shape.push_back(term.shape[axis]);
      }
    return reshaped(std::move(term), letters, shape);
  }

  /// Of a letter that stands twice the elements where both axes agree.
  Term diagonal(Term term) {
    for (size_t first = 0; first < term.letters.size(); ++first) {
      const char letter = term.letters[first];
      const size_t second = term.letters.find(letter, first + 1);
      if (second == std::string::npos) continue;
      Integers order;
      std::string letters;
      Shape shape;
      for (size_t axis = 0; axis < term.letters.size(); ++axis)
        if (axis != first && axis != second) {
          order.push_back(static_cast<int64_t>(axis));
          letters += term.letters[axis];
          shape.push_back(term.shape[axis]);
        }
      const int64_t size = term.shape[first], axis = static_cast<int64_t>(order.size());
      order.insert(order.end(), {static_cast<int64_t>(first), static_cast<int64_t>(second)});
      if (!std::is_sorted(order.begin(), order.end()))
        term.value = writer_.emit("Transpose", {term.value}, {{"perm", order}});
      Shape flat = shape;
      flat.push_back(size * size);
      Variable* rows = writer_.emit("Reshape", {term.value, writer_.integers("shape", flat)}, {});
      Integers places;
      for (int64_t i = 0; i < size; ++i) places.push_back(i * (size + 1));
      shape.push_back(size);
      return diagonal({letters + letter,
                       writer_.emit("Gather", {rows, writer_.integers("diagonal", places)}, {{"axis", axis}}), shape});
    }
    return term;
  }

  Term sum_out(Term term, const std::string& kept) {
    Integers axes;
    Term result{"", term.value, {}};
    for (size_t i = 0; i < term.letters.size(); ++i) {
      if (kept.find(term.letters[i]) == std::string::npos) {
        axes.push_back(static_cast<int64_t>(i));
      } else {
        result.letters += term.letters[i];
        result.shape.push_back(term.shape[i]);
      }
    }
    if (!axes.empty())
      result.value =
          writer_.emit("ReduceSum", {term.value, writer_.integers("axes", axes)}, {{"keepdims", int64_t{0}}});
    return result;
  }

  /// Two terms become one: [batch, rows, summed] x [batch, summed, columns].
  Term contract(Term a, Term b, const std::string& kept) {
    std::string batch, rows, summed, columns;
    for (const char letter : a.letters)
      (!b.has(letter) ? rows : kept.find(letter) != std::string::npos ? batch : summed) += letter;
    for (const char letter : b.letters)
      if (!a.has(letter)) columns += letter;
    a = reorder(std::move(a), batch + rows + summed);
    b = reorder(std::move(b), batch + summed + columns);
    const auto sizes = [](const Term& term, const std::string& letters) {
      Shape shape;
      for (const char letter : letters) shape.push_back(term.size(letter));
      return shape;
    };
    const Shape batches = sizes(a, batch), row = sizes(a, rows), sum = sizes(a, summed), column = sizes(b, columns);
    Shape full = batches;
    full.insert(full.end(), row.begin(), row.end());
    full.insert(full.end(), column.begin(), column.end());
    const std::string letters = batch + rows + columns;
    const auto shape_of = [&](const Shape& left, const Shape& right) {
      Shape shape = batches;
      shape.push_back(product(left));
      shape.push_back(product(right));
      return shape;
    };
    if (summed.empty()) return outer(std::move(a), std::move(b), row.size(), column.size(), batches, letters, full);
    Variable* value = writer_.emit("MatMul", {reshaped(std::move(a), {}, shape_of(row, sum)).value,
                                              reshaped(std::move(b), {}, shape_of(sum, column)).value});
    return reshaped({{}, value, shape_of(row, column)}, letters, full);
  }

 private:
  OperationWriter& writer_;

  /// Nothing is summed: a product that broadcasts.
  Term outer(Term a, Term b, size_t rows, size_t columns, const Shape& batches, const std::string& letters,
             const Shape& full) {
    Shape left = a.shape, right = batches;
    left.insert(left.end(), columns, 1);
    right.insert(right.end(), rows, 1);
    right.insert(right.end(), b.shape.begin() + static_cast<std::ptrdiff_t>(batches.size()), b.shape.end());
    return {letters,
            writer_.emit("Mul", {reshaped(std::move(a), {}, left).value, reshaped(std::move(b), {}, right).value}),
            full};
  }
};

}  // namespace

Variable* write_einsum(std::string text, const std::vector<EinsumOperand>& operands, OperationWriter& operations) {
  std::erase(text, ' ');
  const Equation equation = parse(text, operands);
  std::vector<Term> terms;
  for (size_t i = 0; i < operands.size(); ++i)
    terms.push_back({equation.operands[i], operands[i].value, operands[i].shape});
  const std::map<char, int64_t> sizes = sizes_of(text, terms);
  for (const char letter : equation.result)
    user_check(sizes.count(letter) && std::count(equation.result.begin(), equation.result.end(), letter) == 1,
               "'{}': no operand has the letters of the result, each once", text);
  Writer writer(operations);
  for (Term& term : terms) term = writer.diagonal(writer.without_broadcast_axes(std::move(term), sizes));
  while (terms.size() > 1) {
    Term a = std::move(terms[0]), b = std::move(terms[1]);
    terms.erase(terms.begin(), terms.begin() + 2);
    std::string later = equation.result;
    for (const Term& term : terms) later += term.letters;
    a = writer.sum_out(std::move(a), later + b.letters);
    b = writer.sum_out(std::move(b), later + a.letters);
    terms.insert(terms.begin(), writer.contract(std::move(a), std::move(b), later));
  }
  Term term = writer.sum_out(std::move(terms.at(0)), equation.result);
  return writer.reorder(std::move(term), equation.result).value;
}

}  // namespace espq
