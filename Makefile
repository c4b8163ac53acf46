# The short way in: each target does all the set-up it needs (docs/building.md has the long one).
PRESET ?= release
BUILD := build/$(PRESET)

.PHONY: all deps configure build test demo install clean
all: build

deps:
	@cmake/setup_dependencies.sh

configure: deps
	@test -f $(BUILD)/build.ninja || cmake --preset $(PRESET)

build: configure
	cmake --build --preset $(PRESET)

test: build
	ctest --preset $(PRESET)

demo: configure
	cmake --build --preset $(PRESET) --target demo
	$(BUILD)/samples/demo

PREFIX ?= /usr/local
install: build
	cmake --install $(BUILD) --prefix $(PREFIX)

# The dependencies in .deps stay.
clean:
	rm -rf build
