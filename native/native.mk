# SPDX-License-Identifier: Apache-2.0
# Included by the root Makefile. Headers installed beside node are used where they are, so that nothing is downloaded.
native/build/Release/fairlead.node: native/binding.gyp $(wildcard native/src/*.cc native/src/*.h)
	prefix=$$(node -p "require('node:path').resolve(process.execPath, '../..')"); \
	if [ -e "$$prefix/include/node/node_api.h" ]; then headers="--nodedir=$$prefix"; fi; \
	node_modules/.bin/node-gyp rebuild -C native --loglevel warn $$headers
