/* TensorFlow's C filesystem interface, forwarded to Python.
 *
 * TensorFlow calls the tables below from any of its threads, without the GIL. What can be answered
 * from a buffer is answered here; the rest goes through the py_* functions, which cffi defines and
 * plugin.py implements. They return 0 (or less) after they have set the status.
 *
 * The structures are those of TensorFlow's tensorflow/c/experimental/filesystem/
 * filesystem_interface.h, whose binary interface is fixed: ABI 0, API 0, methods are only added
 * at the end of a table. TensorFlow compares the numbers when the plugin is registered. Declared
 * here, so that the build needs a C compiler and not the 1 GB of TensorFlow.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, OUT_OF_RANGE = 11, RESOURCE_EXHAUSTED = 8 }; /* TF_Code, xla/tsl/c/tsl_status.h */
enum { INTERFACE_ABI = 0, INTERFACE_API = 0 };

typedef struct TF_Status TF_Status;
typedef struct { void *state; } TF_File; /* each of the interface's four wrappers */

typedef struct {
  int64_t length;
  int64_t mtime_nsec;
  bool is_directory;
} TF_FileStatistics;

typedef struct {
  void (*cleanup)(TF_File *);
  int64_t (*read)(const TF_File *, uint64_t, size_t, char *, TF_Status *);
} TF_RandomAccessFileOps;

typedef struct {
  void (*cleanup)(TF_File *);
  void (*append)(const TF_File *, const char *, size_t, TF_Status *);
  int64_t (*tell)(const TF_File *, TF_Status *);
  void (*flush)(const TF_File *, TF_Status *);
  void (*sync)(const TF_File *, TF_Status *);
  void (*close)(const TF_File *, TF_Status *);
} TF_WritableFileOps;

typedef struct {
  void (*cleanup)(TF_File *);
  const void *(*data)(const TF_File *);
  uint64_t (*length)(const TF_File *);
} TF_ReadOnlyMemoryRegionOps;

typedef struct {
  void (*init)(TF_File *, TF_Status *);
  void (*cleanup)(TF_File *);
  void (*new_random_access_file)(const TF_File *, const char *, TF_File *, TF_Status *);
  void (*new_writable_file)(const TF_File *, const char *, TF_File *, TF_Status *);
  void (*new_appendable_file)(const TF_File *, const char *, TF_File *, TF_Status *);
  void (*new_read_only_memory_region)(const TF_File *, const char *, TF_File *, TF_Status *);
  void (*create_dir)(const TF_File *, const char *, TF_Status *);
  void (*recursively_create_dir)(const TF_File *, const char *, TF_Status *);
  void (*delete_file)(const TF_File *, const char *, TF_Status *);
  void (*delete_dir)(const TF_File *, const char *, TF_Status *);
  void (*delete_recursively)(const TF_File *, const char *, uint64_t *, uint64_t *, TF_Status *);
  void (*rename_file)(const TF_File *, const char *, const char *, TF_Status *);
  void (*copy_file)(const TF_File *, const char *, const char *, TF_Status *);
  void (*path_exists)(const TF_File *, const char *, TF_Status *);
  bool (*paths_exist)(const TF_File *, char **, int, TF_Status **);
  void (*stat)(const TF_File *, const char *, TF_FileStatistics *, TF_Status *);
  bool (*is_directory)(const TF_File *, const char *, TF_Status *);
  int64_t (*get_file_size)(const TF_File *, const char *, TF_Status *);
  char *(*translate_name)(const TF_File *, const char *);
  int (*get_children)(const TF_File *, const char *, char ***, TF_Status *);
  int (*get_matching_paths)(const TF_File *, const char *, char ***, TF_Status *);
  void (*flush_caches)(const TF_File *);
  /* Transactions and configuration: TensorFlow's defaults serve, as for its local files. */
  void *others[11];
} TF_FilesystemOps;

typedef struct {
  char *scheme;
  int filesystem_abi, filesystem_api;
  size_t filesystem_size;
  TF_FilesystemOps *filesystem;
  int reader_abi, reader_api;
  size_t reader_size;
  TF_RandomAccessFileOps *reader;
  int writer_abi, writer_api;
  size_t writer_size;
  TF_WritableFileOps *writer;
  int region_abi, region_api;
  size_t region_size;
  TF_ReadOnlyMemoryRegionOps *region;
} TF_FilesystemPluginOps;

typedef struct {
  size_t num_schemes;
  TF_FilesystemPluginOps *ops;
  void *(*plugin_memory_allocate)(size_t);
  void (*plugin_memory_free)(void *);
} TF_FilesystemPluginInfo;

/* What plugin.py tells once, before the first registration. */
static void (*set_status)(TF_Status *, int, const char *);
static size_t write_buffer_bytes = 1;
/* The schemes of the registration that is under way: NUL-separated. */
static char *pending;
static size_t pending_count;

static void use(void *tf_set_status, size_t write_bytes) {
  set_status = (void (*)(TF_Status *, int, const char *))tf_set_status;
  write_buffer_bytes = write_bytes;
}

static void fail(void *status, int code, const char *message) {
  set_status((TF_Status *)status, code, message);
}

static void fine(TF_Status *status) { set_status(status, OK, ""); }

static void settle(int went_well, TF_Status *status) {
  if (went_well) fine(status);
}

/* ---- random access -------------------------------------------------------------------------- */

/* A window of the file that Python keeps alive until it shows another one. The lock is held for
 * copying only, never while waiting for the GIL. */
typedef struct {
  int64_t handle;
  int descriptor; /* of a file that the kernel reads; -1 for others */
  pthread_mutex_t lock;
  const char *data;
  uint64_t start, length;
} Reader;

static void show(void *reader, const char *data, uint64_t start, uint64_t length) {
  Reader *r = (Reader *)reader;
  pthread_mutex_lock(&r->lock);
  r->data = data;
  r->start = start;
  r->length = length;
  pthread_mutex_unlock(&r->lock);
}

static size_t from_window(void *reader, uint64_t offset, size_t size, char *into) {
  Reader *r = (Reader *)reader;
  size_t count = 0;
  pthread_mutex_lock(&r->lock);
  if (offset >= r->start && offset - r->start < r->length) {
    uint64_t left = r->length - (offset - r->start);
    count = left < size ? (size_t)left : size;
    memcpy(into, r->data + (offset - r->start), count);
  }
  pthread_mutex_unlock(&r->lock);
  return count;
}

static int64_t end_of_file(size_t done, TF_Status *status) {
  set_status(status, OUT_OF_RANGE, "end of file");
  return (int64_t)done;
}

/* A file of the kernel's needs no window: it reads ahead itself, and straight to where it is
 * wanted. */
static int64_t kernel_read(Reader *r, uint64_t offset, size_t size, char *into,
                           TF_Status *status) {
  size_t done = 0;
  while (done < size) {
    ssize_t got = pread(r->descriptor, into + done, size - done, (off_t)(offset + done));
    if (got == 0) return end_of_file(done, status);
    if (got > 0) {
      done += (size_t)got;
    } else if (errno != EINTR) {
      py_errno(r->handle, errno, status);
      return -1;
    }
  }
  fine(status);
  return (int64_t)done;
}

static int64_t reader_read(const TF_File *file, uint64_t offset, size_t size, char *into,
                           TF_Status *status) {
  Reader *r = (Reader *)file->state;
  if (r->descriptor >= 0) return kernel_read(r, offset, size, into, status);
  size_t done = 0;
  while (done < size) {
    size_t count = from_window(r, offset + done, size - done, into + done);
    if (count == 0) {
      int64_t fetched = py_fetch(r->handle, r, offset + done, size - done, into + done, status);
      if (fetched < 0) return -1;
      if (fetched == 0) return end_of_file(done, status);
      count = (size_t)fetched;
    }
    done += count;
  }
  fine(status);
  return (int64_t)done;
}

static void reader_cleanup(TF_File *file) {
  Reader *r = (Reader *)file->state;
  if (r == NULL) return;
  py_forget(r->handle);
  pthread_mutex_destroy(&r->lock);
  free(r);
}

static void new_reader(const TF_File *fs, const char *path, TF_File *file, TF_Status *status) {
  (void)fs;
  int descriptor = -1;
  int64_t handle = py_open_reader(path, &descriptor, status);
  if (handle <= 0) return;
  Reader *r = (Reader *)calloc(1, sizeof(Reader));
  r->handle = handle;
  r->descriptor = descriptor;
  pthread_mutex_init(&r->lock, NULL);
  file->state = r;
  fine(status);
}

/* ---- writing: by one thread at a time, says the interface ------------------------------------- */

typedef struct {
  int64_t handle;
  int64_t position;
  size_t used;
  bool is_open;
  char buffer[];
} Writer;

static int drain(Writer *w, TF_Status *status) {
  if (w->used == 0) return 1;
  size_t count = w->used;
  w->used = 0; /* also after a failure: what was lost is not written twice */
  return py_write(w->handle, w->buffer, count, status);
}

static void writer_append(const TF_File *file, const char *data, size_t size, TF_Status *status) {
  Writer *w = (Writer *)file->state;
  if (size > write_buffer_bytes - w->used && !drain(w, status)) return;
  if (size >= write_buffer_bytes) {
    if (!py_write(w->handle, data, size, status)) return;
  } else {
    memcpy(w->buffer + w->used, data, size);
    w->used += size;
  }
  w->position += (int64_t)size;
  fine(status);
}

static int64_t writer_tell(const TF_File *file, TF_Status *status) {
  fine(status);
  return ((Writer *)file->state)->position;
}

static void writer_flush(const TF_File *file, TF_Status *status) {
  Writer *w = (Writer *)file->state;
  settle(drain(w, status) && py_flush(w->handle, 0, status), status);
}

static void writer_sync(const TF_File *file, TF_Status *status) {
  Writer *w = (Writer *)file->state;
  settle(drain(w, status) && py_flush(w->handle, 1, status), status);
}

static void writer_close(const TF_File *file, TF_Status *status) {
  Writer *w = (Writer *)file->state;
  int drained = drain(w, status);
  w->is_open = false;
  /* Closed in any case; the first failure is the one that is told. */
  int closed = py_close_writer(w->handle, drained ? status : NULL);
  settle(drained && closed, status);
}

static void writer_cleanup(TF_File *file) {
  Writer *w = (Writer *)file->state;
  if (w == NULL) return;
  if (w->is_open) { /* as TensorFlow's local files: what was written is kept, nobody is told */
    if (w->used) py_write(w->handle, w->buffer, w->used, NULL);
    py_close_writer(w->handle, NULL);
  }
  py_forget(w->handle);
  free(w);
}

static void open_writer(const char *path, int append, TF_File *file, TF_Status *status) {
  int64_t position = 0;
  int64_t handle = py_open_writer(path, append, &position, status);
  if (handle <= 0) return;
  Writer *w = (Writer *)malloc(sizeof(Writer) + write_buffer_bytes);
  w->handle = handle;
  w->position = position;
  w->used = 0;
  w->is_open = true;
  file->state = w;
  fine(status);
}

static void new_writer(const TF_File *fs, const char *path, TF_File *file, TF_Status *status) {
  (void)fs;
  open_writer(path, 0, file, status);
}

static void new_appender(const TF_File *fs, const char *path, TF_File *file, TF_Status *status) {
  (void)fs;
  open_writer(path, 1, file, status);
}

/* ---- a whole file in memory ------------------------------------------------------------------- */

typedef struct {
  uint64_t length;
  char data[];
} Region;

static void new_region(const TF_File *fs, const char *path, TF_File *file, TF_Status *status) {
  int64_t length = 0, mtime = 0;
  int is_directory = 0;
  TF_File reader = {NULL};
  if (!py_stat(path, &length, &mtime, &is_directory, status)) return;
  if (!is_directory && length == 0) {
    py_refuse_empty(path, status);
    return;
  }
  new_reader(fs, path, &reader, status);
  if (reader.state == NULL) return;
  Region *region = (Region *)malloc(sizeof(Region) + (size_t)length);
  if (region == NULL) {
    set_status(status, RESOURCE_EXHAUSTED, path);
  } else {
    int64_t got = reader_read(&reader, 0, (size_t)length, region->data, status);
    if (got == length) {
      region->length = (uint64_t)length;
      file->state = region;
    } else {
      free(region);
    }
  }
  reader_cleanup(&reader);
}

static void region_cleanup(TF_File *file) { free(file->state); }

static const void *region_data(const TF_File *file) { return ((Region *)file->state)->data; }

static uint64_t region_length(const TF_File *file) { return ((Region *)file->state)->length; }

/* ---- paths ------------------------------------------------------------------------------------ */

static void fs_init(TF_File *fs, TF_Status *status) {
  (void)fs;
  fine(status);
}

static void fs_cleanup(TF_File *fs) { (void)fs; }

#define CHANGE(name, what)                                                          \
  static void name(const TF_File *fs, const char *path, TF_Status *status) {        \
    (void)fs;                                                                       \
    settle(py_change(what, path, "", status), status);                              \
  }

#define CHANGE_TO(name, what)                                                       \
  static void name(const TF_File *fs, const char *source, const char *target,       \
                   TF_Status *status) {                                             \
    (void)fs;                                                                       \
    settle(py_change(what, source, target, status), status);                        \
  }

CHANGE(fs_create_dir, "create_dir")
CHANGE(fs_create_dirs, "create_dirs")
CHANGE(fs_delete_file, "delete_file")
CHANGE(fs_delete_dir, "delete_dir")
CHANGE(fs_exists, "exists")
CHANGE_TO(fs_rename, "rename")
CHANGE_TO(fs_copy, "copy")

static void fs_delete_recursively(const TF_File *fs, const char *path, uint64_t *files,
                                  uint64_t *dirs, TF_Status *status) {
  (void)fs;
  int deleted = py_change("delete_recursively", path, "", status);
  *files = 0;
  *dirs = deleted ? 0 : 1;
  settle(deleted, status);
}

static bool fs_all_exist(const TF_File *fs, char **paths, int count, TF_Status **statuses) {
  (void)fs;
  bool all = true;
  for (int i = 0; i < count; i++) {
    TF_Status *status = statuses ? statuses[i] : NULL;
    int found = py_change("exists", paths[i], "", status);
    if (found && status) fine(status);
    all = all && found;
  }
  return all;
}

static void fs_stat(const TF_File *fs, const char *path, TF_FileStatistics *stats,
                    TF_Status *status) {
  (void)fs;
  int64_t length = 0, mtime = 0;
  int is_directory = 0;
  if (!py_stat(path, &length, &mtime, &is_directory, status)) return;
  stats->length = length;
  stats->mtime_nsec = mtime;
  stats->is_directory = is_directory != 0;
  fine(status);
}

static bool fs_is_directory(const TF_File *fs, const char *path, TF_Status *status) {
  (void)fs;
  /* TensorFlow looks at the status alone, as do its own filesystems. */
  int is_directory = py_change("is_directory", path, "", status);
  settle(is_directory, status);
  return is_directory != 0;
}

static int64_t fs_size(const TF_File *fs, const char *path, TF_Status *status) {
  (void)fs;
  int64_t length = 0;
  if (!py_size(path, &length, status)) return -1;
  fine(status);
  return length;
}

static char *fs_translate(const TF_File *fs, const char *uri) {
  (void)fs;
  /* The URI itself, as it says which host. TensorFlow frees it. */
  return strdup(uri);
}

/* Called by Python with the answer of py_list: NUL-terminated strings, one after the other. */
static void give(void *entries, const char *joined, size_t count) {
  char **list = (char **)calloc(count ? count : 1, sizeof(char *));
  for (size_t i = 0; i < count; i++) {
    list[i] = strdup(joined);
    joined += strlen(joined) + 1;
  }
  *(char ***)entries = list;
}

static int fs_children(const TF_File *fs, const char *path, char ***entries, TF_Status *status) {
  (void)fs;
  int count = py_list("children", path, entries, status);
  settle(count >= 0, status);
  return count;
}

static int fs_matching(const TF_File *fs, const char *pattern, char ***entries,
                       TF_Status *status) {
  (void)fs;
  int count = py_list("matching", pattern, entries, status);
  settle(count >= 0, status);
  return count;
}

static void fs_flush_caches(const TF_File *fs) {
  (void)fs;
  py_flush_caches();
}

/* ---- registration ------------------------------------------------------------------------------ */

static void *allocate(size_t size) { return calloc(1, size); }

static void announce(const char *schemes, size_t bytes, size_t count) {
  free(pending);
  pending = (char *)malloc(bytes);
  memcpy(pending, schemes, bytes);
  pending_count = count;
}

static void fill(TF_FilesystemPluginOps *ops, const char *scheme) {
  ops->scheme = strdup(scheme);
  ops->filesystem_abi = ops->reader_abi = ops->writer_abi = ops->region_abi = INTERFACE_ABI;
  ops->filesystem_api = ops->reader_api = ops->writer_api = ops->region_api = INTERFACE_API;
  ops->filesystem_size = sizeof(TF_FilesystemOps);
  ops->reader_size = sizeof(TF_RandomAccessFileOps);
  ops->writer_size = sizeof(TF_WritableFileOps);
  ops->region_size = sizeof(TF_ReadOnlyMemoryRegionOps);

  ops->reader = (TF_RandomAccessFileOps *)allocate(ops->reader_size);
  *ops->reader = (TF_RandomAccessFileOps){reader_cleanup, reader_read};
  ops->writer = (TF_WritableFileOps *)allocate(ops->writer_size);
  *ops->writer = (TF_WritableFileOps){writer_cleanup, writer_append, writer_tell,
                                      writer_flush,   writer_sync,   writer_close};
  ops->region = (TF_ReadOnlyMemoryRegionOps *)allocate(ops->region_size);
  *ops->region = (TF_ReadOnlyMemoryRegionOps){region_cleanup, region_data, region_length};
  ops->filesystem = (TF_FilesystemOps *)allocate(ops->filesystem_size);
  *ops->filesystem = (TF_FilesystemOps){
      .init = fs_init,
      .cleanup = fs_cleanup,
      .new_random_access_file = new_reader,
      .new_writable_file = new_writer,
      .new_appendable_file = new_appender,
      .new_read_only_memory_region = new_region,
      .create_dir = fs_create_dir,
      .recursively_create_dir = fs_create_dirs,
      .delete_file = fs_delete_file,
      .delete_dir = fs_delete_dir,
      .delete_recursively = fs_delete_recursively,
      .rename_file = fs_rename,
      .copy_file = fs_copy,
      .path_exists = fs_exists,
      .paths_exist = fs_all_exist,
      .stat = fs_stat,
      .is_directory = fs_is_directory,
      .get_file_size = fs_size,
      .translate_name = fs_translate,
      .get_children = fs_children,
      .get_matching_paths = fs_matching,
      .flush_caches = fs_flush_caches,
  };
}

__attribute__((visibility("default"))) void TF_InitPlugin(TF_FilesystemPluginInfo *info) {
  info->plugin_memory_allocate = allocate;
  info->plugin_memory_free = free;
  info->num_schemes = pending_count;
  info->ops = (TF_FilesystemPluginOps *)calloc(pending_count, sizeof(TF_FilesystemPluginOps));
  const char *scheme = pending;
  for (size_t i = 0; i < pending_count; i++) {
    fill(&info->ops[i], scheme);
    scheme += strlen(scheme) + 1;
  }
}
