/* Declared once: the compiler includes this file and cffi parses it (build_codec.py). */

/* Bytes [start, start + size) of a buffer; start is -1 for what is absent. */
typedef struct {
  int64_t start;
  int64_t size;
} span;

/* One column of rows to encode. `kind` is the field number of its list in a Feature. */
typedef struct {
  int32_t kind;          /* 1 bytes_list, 2 float_list, 3 int64_list */
  int32_t depth;         /* 0 one value per row, 1 a list, 2 a list of lists */
  const char *name;
  int64_t name_size;
  const uint8_t *valid;  /* one byte per row, 0 leaves the feature out; NULL: all are there */
  const int64_t *outer;  /* depth 1 and 2: where a row's values (its lists) begin, rows + 1 */
  const int64_t *inner;  /* depth 2: where a list's values begin, lists + 1 */
  const void *values;    /* int64_t, float, or the bytes of all strings */
  const int64_t *ends;   /* of strings: where each begins, values + 1 */
} column;

void tfr_init(void);
uint32_t tfr_crc32c(const uint8_t *data, int64_t size);

int64_t tfr_scan(const uint8_t *data, int64_t size, int64_t record_limit, int64_t most,
                 span *records, uint8_t *problems, int64_t *used, int32_t *stop);
int64_t tfr_encode(const column *columns, int32_t context, int32_t lists, int64_t rows,
                   int32_t message, uint8_t *out, int64_t capacity);
int64_t tfr_index(const uint8_t *data, const span *records, int64_t rows, const uint8_t *names,
                  const int64_t *ends, int32_t context, int32_t lists, int32_t *table,
                  int32_t table_size, int32_t stop_at_unknown, span *slots, uint8_t *problems);
void tfr_measure(const uint8_t *data, const span *features, int64_t rows, uint8_t *kinds,
                 int64_t *counts, int64_t *sizes, uint8_t *problems);
int64_t tfr_split(const uint8_t *data, const span *lists, int64_t rows, int64_t *counts,
                  span *features, int64_t capacity, uint8_t *problems);
int64_t tfr_int64s(const uint8_t *data, const span *features, int64_t rows, int64_t *out,
                   int64_t capacity);
int64_t tfr_floats(const uint8_t *data, const span *features, int64_t rows, float *out,
                   int64_t capacity);
int64_t tfr_strings(const uint8_t *data, const span *features, int64_t rows, int64_t *ends,
                    int64_t capacity, uint8_t *out, int64_t bytes);
