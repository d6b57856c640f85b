"""Compiles the bridge when the project is installed; ``setup.py`` names ``ffi`` below.

By hand, in a checkout: ``python setup.py build_ext --inplace``.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

# What plugin.py implements. Each sets the status and returns 0 (a handle or count: less than 1,
# less than 0) when it fails.
_CALLED = """
    int64_t py_open_reader(const char *path, int *descriptor, void *status);
    void py_errno(int64_t handle, int number, void *status);
    int64_t py_fetch(int64_t handle, void *reader, uint64_t offset, size_t size, char *into,
                     void *status);
    int64_t py_open_writer(const char *path, int append, int64_t *position, void *status);
    int py_write(int64_t handle, const char *data, size_t size, void *status);
    int py_flush(int64_t handle, int sync, void *status);
    int py_close_writer(int64_t handle, void *status);
    void py_forget(int64_t handle);
    int py_stat(const char *path, int64_t *length, int64_t *mtime_ns, int *is_directory,
                void *status);
    int py_size(const char *path, int64_t *length, void *status);
    void py_refuse_empty(const char *path, void *status);
    int py_change(const char *what, const char *path, const char *target, void *status);
    int py_list(const char *what, const char *path, void *entries, void *status);
    void py_flush_caches(void);
"""

# What plugin.py calls.
_OFFERED = """
    void use(void *tf_set_status, size_t write_bytes);
    void announce(const char *schemes, size_t bytes, size_t count);
    void fail(void *status, int code, const char *message);
    void show(void *reader, const char *data, uint64_t start, uint64_t length);
    size_t from_window(void *reader, uint64_t offset, size_t size, char *into);
    void give(void *entries, const char *joined, size_t count);
"""

# cffi defines them, below the source.
_DECLARED = "".join(f"static {one.strip()};\n" for one in _CALLED.split(";") if one.strip())

ffi = FFI()
ffi.cdef(f'extern "Python" {{ {_CALLED} }} {_OFFERED}')
ffi.set_source(
    "spark_strategy.filesystem._bridge",
    f"#include <stddef.h>\n#include <stdint.h>\n{_DECLARED}"
    + Path(__file__).with_name("bridge.c").read_text(encoding="utf-8"),
    # Without a compiler the rest of the library installs all the same; ``register`` says so.
    optional=True,
    extra_compile_args=["-std=gnu11", "-O2"],
    libraries=["pthread"],
)
