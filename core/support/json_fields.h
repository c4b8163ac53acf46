#pragma once
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/support/enum_names.h"
#include "core/support/error.h"
#include "core/support/text.h"

namespace espq {

/// An options struct becomes JSON and back by one function that lists its fields:
///   template <class Fields> void describe(Fields& fields, MyOptions& options) { fields("steps", options.steps); ... }
/// Fields may be bool, integers, float, double, string, named enums, structs with a describe() of their own, vectors,
/// maps with string keys, and optionals, which are off when they are empty:
/// - written, an empty optional is null;
/// - read, null and false empty it, and whatever the value may be fills it: an object keeps what it does not name, true
///   fills a struct with its defaults if it was empty.
class JsonWriter {
 public:
  template <typename T>
  void operator()(const char* key, T& value) {
    json_[key] = write(value);
  }
  const nlohmann::ordered_json& json() const { return json_; }

 private:
  template <typename T>
  static nlohmann::ordered_json write(T& value) {
    if constexpr (NamedEnum<T>) {
      return enum_name(value);
    } else if constexpr (requires { value.has_value(); }) {
      return value.has_value() ? write(*value) : nlohmann::ordered_json(nullptr);
    } else if constexpr (requires { typename T::mapped_type; }) {
      auto object = nlohmann::ordered_json::object();
      for (auto& [key, element] : value) object[key] = write(element);
      return object;
    } else if constexpr (requires(JsonWriter & writer) { describe(writer, value); }) {
      JsonWriter nested;
      describe(nested, value);
      return nested.json();
    } else {
      return value;
    }
  }
  nlohmann::ordered_json json_ = nlohmann::ordered_json::object();
};

/// Reads what is there and keeps the rest. finish() rejects unknown keys, naming the nearest known one and all others.
class JsonReader {
 public:
  /// `where` names the object in messages, e.g. "recipe.json: calibration".
  JsonReader(const nlohmann::json& json, std::string where) : json_(json), where_(std::move(where)) {
    user_check(json.is_object(), "{}: expected a JSON object, found {}", where_, json.type_name());
  }

  template <typename T>
  void operator()(const char* key, T& value) {
    known_.emplace_back(key);
    const auto found = json_.find(key);
    if (found != json_.end()) read(*found, value, where_ + "." + key);
  }

  void finish() const {
    for (const auto& [key, unused] : json_.items())
      if (std::find(known_.begin(), known_.end(), key) == known_.end())
        user_error("{}: unknown key '{}'; did you mean '{}'? It has {}", where_, key, nearest_name(key, known_),
                   fmt::join(known_, ", "));
  }

 private:
  template <typename T>
  static constexpr bool is_struct = requires(JsonReader& reader, T& value) {
    describe(reader, value);
  };

  template <typename T>
  static void read(const nlohmann::json& json, T& value, const std::string& where) {
    if constexpr (NamedEnum<T>) {
      user_check(json.is_string(), "{}: expected a string, found {}", where, json.dump());
      value = parse_enum<T>(json.get<std::string>(), where);
    } else if constexpr (std::is_same_v<T, bool>) {
      user_check(json.is_boolean(), "{}: expected true or false, found {}", where, json.dump());
      value = json.get<bool>();
    } else if constexpr (std::is_integral_v<T>) {
      user_check(json.is_number_integer(), "{}: expected an integer, found {}", where, json.dump());
      value = json.get<T>();
    } else if constexpr (std::is_floating_point_v<T>) {
      user_check(json.is_number(), "{}: expected a number, found {}", where, json.dump());
      value = json.get<T>();
    } else if constexpr (std::is_same_v<T, std::string>) {
      user_check(json.is_string(), "{}: expected a string, found {}", where, json.dump());
      value = json.get<std::string>();
    } else if constexpr (requires { value.has_value(); }) {
      read_optional(json, value, where);
    } else if constexpr (requires { typename T::mapped_type; }) {
      user_check(json.is_object(), "{}: expected an object, found {}", where, json.type_name());
      for (const auto& [key, element] : json.items()) read_element(element, value, key, where);
    } else if constexpr (requires { value.push_back(typename T::value_type{}); }) {
      user_check(json.is_array(), "{}: expected a list, found {}", where, json.type_name());
      value.clear();
      for (const auto& element : json) read(element, value.emplace_back(), where);
    } else {
      JsonReader nested(json, where);
      describe(nested, value);
      nested.finish();
    }
  }

  template <typename Optional>
  static void read_optional(const nlohmann::json& json, Optional& value, const std::string& where) {
    using Value = typename Optional::value_type;
    if (json.is_null()) return value.reset();
    if constexpr (!std::is_same_v<Value, bool>)
      if (json == false) return value.reset();
    Value inner = value.value_or(Value{});
    if (!(is_struct<Value> && json == true)) read(json, inner, where);
    value = std::move(inner);
  }

  /// Entries of a map are kept like fields of a struct; null takes one away.
  template <typename Map>
  static void read_element(const nlohmann::json& json, Map& map, const std::string& key, const std::string& where) {
    if (json.is_null()) {
      map.erase(key);
    } else {
      read(json, map[key], where + "." + key);
    }
  }

  const nlohmann::json& json_;
  std::string where_;
  std::vector<std::string> known_;
};

template <typename T>
std::string to_json(const T& options) {
  JsonWriter writer;
  describe(writer, const_cast<T&>(options));  // describe() lists fields for both directions; the writer only reads
  return writer.json().dump(2) + "\n";
}

/// Overwrites the fields that `json` names. Throws UserError naming `source` (a file) on wrong types or keys.
template <typename T>
void read_fields(const nlohmann::json& json, T& options, const std::string& source) {
  JsonReader reader(json, source);
  describe(reader, options);
  reader.finish();
}

/// Throws UserError naming `source` when the text is no JSON.
inline nlohmann::json parse_json(std::string_view text, const std::string& source) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    user_error("{}: not valid JSON ({})", source, error.what());
  }
}

/// read_fields() from text.
template <typename T>
void from_json(std::string_view text, T& options, const std::string& source) {
  read_fields(parse_json(text, source), options, source);
}

}  // namespace espq
