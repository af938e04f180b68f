# SPDX-License-Identifier: Apache-2.0
{
  'targets': [{
    'target_name': 'fairlead',
    'sources': ['src/all.cc'],
    'include_dirs': ["<!(node -p \"require('node-addon-api').include_dir\")"],
    # Swallow: a promise that settles while its worker thread is being stopped has nobody left to throw to.
    'defines': ['NAPI_VERSION=8', 'NAPI_DISABLE_CPP_EXCEPTIONS', 'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS'],
    'cflags_cc': ['-std=c++17', '-fno-exceptions', '-fvisibility=hidden', '-Wall', '-Wextra', '-Wno-unused-parameter'],
    'cflags_cc!': ['-std=gnu++17', '-fexceptions'],
    'libraries': ['-lbpf']
  }]
}
