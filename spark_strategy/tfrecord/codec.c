/* TFRecord framing and the wire format of Example and SequenceExample, columns at a time.
 *
 * Sources: tensorflow/core/lib/io/record_writer.h (framing, the mask of the CRC),
 * tensorflow/core/example/{example,feature}.proto, protobuf's encoding guide.
 *
 * Rules of this file: every read is checked against the end of its message; nothing is allocated,
 * all memory is the caller's; no call keeps state; data comes from files, so anything may be in it.
 * pure.py is the same in Python, and the tests hold one against the other.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "codec.h"

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "written for little-endian processors; others use pure.py"
#endif

enum { FINE = 0, BAD_DATA_CRC = 1, MALFORMED = 2 };             /* problems of a record */
enum { END = 0, BAD_LENGTH_CRC = 1, TRUNCATED = 2, TOO_LONG = 3 }; /* why a scan stopped */
enum { HEADER = 12, FOOTER = 4 };

/* ---- CRC-32C, polynomial 0x82f63b78 reflected ---- */

static uint32_t crc_table[8][256];

void tfr_init(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1)));
    crc_table[0][i] = crc;
  }
  for (int slice = 1; slice < 8; slice++)
    for (uint32_t i = 0; i < 256; i++) {
      uint32_t crc = crc_table[slice - 1][i];
      crc_table[slice][i] = (crc >> 8) ^ crc_table[0][crc & 255];
    }
}

static uint32_t crc_by_table(uint32_t crc, const uint8_t *p, int64_t size) {
  while (size >= 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    word ^= crc;
    crc = 0;
    for (int slice = 0; slice < 8; slice++)
      crc ^= crc_table[7 - slice][(word >> (8 * slice)) & 255];
    p += 8;
    size -= 8;
  }
  while (size-- > 0) crc = (crc >> 8) ^ crc_table[0][(crc ^ *p++) & 255];
  return crc;
}

#if defined(__x86_64__) && defined(__GNUC__)
__attribute__((target("sse4.2"))) static uint32_t crc_by_sse42(uint32_t start, const uint8_t *p,
                                                               int64_t size) {
  uint64_t crc = start;
  for (; size >= 8; p += 8, size -= 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    crc = __builtin_ia32_crc32di(crc, word);
  }
  for (; size > 0; size--) crc = __builtin_ia32_crc32qi((uint32_t)crc, *p++);
  return (uint32_t)crc;
}
static uint32_t crc_update(uint32_t crc, const uint8_t *p, int64_t size) {
  return __builtin_cpu_supports("sse4.2") ? crc_by_sse42(crc, p, size) : crc_by_table(crc, p, size);
}
#else
#define crc_update crc_by_table
#endif

uint32_t tfr_crc32c(const uint8_t *data, int64_t size) { return ~crc_update(~0u, data, size); }

static uint32_t masked_crc(const uint8_t *data, int64_t size) {
  uint32_t crc = tfr_crc32c(data, size);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

static int crc_fits(const uint8_t *data, int64_t size, const uint8_t *stored) {
  uint32_t crc;
  memcpy(&crc, stored, 4);
  return crc == masked_crc(data, size);
}

/* ---- framing ---- */

/* Records at the start of `data`: how many, at most `most`, and the bytes `used` by them.
 * `stop` is END where more data (or none) is needed; the caller knows whether the file has ended. */
int64_t tfr_scan(const uint8_t *data, int64_t size, int64_t record_limit, int64_t most,
                 span *records, uint8_t *problems, int64_t *used, int32_t *stop) {
  int64_t at = 0, count = 0;
  *stop = END;
  while (count < most && at < size) {
    uint64_t length;
    if (size - at < HEADER) {
      *stop = TRUNCATED;
      break;
    }
    if (!crc_fits(data + at, 8, data + at + 8)) {
      *stop = BAD_LENGTH_CRC;
      break;
    }
    memcpy(&length, data + at, 8);
    if (length > (uint64_t)record_limit) {
      *stop = TOO_LONG;
      break;
    }
    if (size - at - HEADER - FOOTER < (int64_t)length) {
      *stop = TRUNCATED;
      break;
    }
    const uint8_t *body = data + at + HEADER;
    records[count].start = at + HEADER;
    records[count].size = (int64_t)length;
    problems[count] = crc_fits(body, (int64_t)length, body + length) ? FINE : BAD_DATA_CRC;
    count++;
    at += HEADER + (int64_t)length + FOOTER;
  }
  *used = at;
  return count;
}

/* ---- writing, from the end of the buffer to its front, so that lengths are known in time ---- */

static uint8_t *put_varint(uint8_t *p, uint64_t value) {
  int size = 1;
  for (uint64_t rest = value >> 7; rest; rest >>= 7) size++;
  p -= size;
  for (int i = 0; i < size - 1; i++, value >>= 7) p[i] = (uint8_t)(value | 128);
  p[size - 1] = (uint8_t)value;
  return p;
}

/* Tag and length in front of the bytes [p, end). */
static uint8_t *put_head(uint8_t *p, const uint8_t *end, int number) {
  p = put_varint(p, (uint64_t)(end - p));
  *--p = (uint8_t)(number << 3 | 2);
  return p;
}

static uint8_t *put_bytes(uint8_t *p, const void *bytes, int64_t size) {
  p -= size;
  if (size > 0) memcpy(p, bytes, (size_t)size);
  return p;
}

enum { VARINT_MOST = 10, HEAD_MOST = 11 };

/* A Feature of the values [from, to), without its own head; NULL where the buffer is too small. */
static uint8_t *put_feature(uint8_t *p, const uint8_t *front, const column *c, int64_t from,
                            int64_t to) {
  uint8_t *end = p;
  int64_t count = to - from, room = p - front - 2 * HEAD_MOST;
  if (c->kind == 1) {
    const uint8_t *text = c->values;
    if (room < c->ends[to] - c->ends[from] + HEAD_MOST * count) return NULL;
    for (int64_t i = to; i-- > from;) {
      const uint8_t *item_end = p;
      p = put_bytes(p, text + c->ends[i], c->ends[i + 1] - c->ends[i]);
      p = put_head(p, item_end, 1);
    }
  } else if (c->kind == 2) {
    if (room < 4 * count) return NULL;
    p = put_bytes(p, (const float *)c->values + from, 4 * count);
    if (count) p = put_head(p, end, 1);
  } else {
    const int64_t *values = c->values;
    if (room < VARINT_MOST * count) return NULL;
    for (int64_t i = to; i-- > from;) p = put_varint(p, (uint64_t)values[i]);
    if (count) p = put_head(p, end, 1);
  }
  return put_head(p, end, c->kind);
}

/* The map entries of one row, last name first; NULL where the buffer is too small. */
static uint8_t *put_entries(uint8_t *p, const uint8_t *front, const column *columns, int32_t count,
                            int64_t row) {
  for (int32_t i = count; i-- > 0;) {
    const column *c = columns + i;
    if (c->valid && !c->valid[row]) continue;
    uint8_t *entry_end = p, *value_end = p;
    if (c->depth < 2) {
      int64_t from = c->depth ? c->outer[row] : row, to = c->depth ? c->outer[row + 1] : row + 1;
      if (!(p = put_feature(p, front, c, from, to))) return NULL;
    } else {
      for (int64_t list = c->outer[row + 1]; list-- > c->outer[row];) {
        uint8_t *list_end = p;
        if (!(p = put_feature(p, front, c, c->inner[list], c->inner[list + 1]))) return NULL;
        if (p - front < HEAD_MOST) return NULL;
        p = put_head(p, list_end, 1);
      }
    }
    if (p - front < c->name_size + 3 * HEAD_MOST) return NULL;
    p = put_head(p, value_end, 2);
    uint8_t *name_end = p;
    p = put_bytes(p, c->name, c->name_size);
    p = put_head(p, name_end, 1);
    p = put_head(p, entry_end, 1);
  }
  return p;
}

/* Framed records of all rows at the end of `out`: where they start, -1 where they do not fit.
 * `message`: 0 the bytes of the only column, 1 Example, 2 SequenceExample. */
int64_t tfr_encode(const column *columns, int32_t context, int32_t lists, int64_t rows,
                   int32_t message, uint8_t *out, int64_t capacity) {
  uint8_t *p = out + capacity;
  for (int64_t row = rows; row-- > 0;) {
    if (p - out < FOOTER + HEADER + 2 * HEAD_MOST) return -1;
    uint8_t *footer = p -= FOOTER;
    if (message == 0) {
      int64_t size = columns->ends[row + 1] - columns->ends[row];
      if (p - out < size + HEADER) return -1;
      p = put_bytes(p, (const uint8_t *)columns->values + columns->ends[row], size);
    } else {
      if (message == 2) {
        if (!(p = put_entries(p, out, columns + context, lists, row))) return -1;
        if (p - out < HEAD_MOST) return -1;
        p = put_head(p, footer, 2);
      }
      uint8_t *features_end = p;
      if (!(p = put_entries(p, out, columns, context, row))) return -1;
      if (p - out < HEAD_MOST + HEADER) return -1;
      p = put_head(p, features_end, 1);
    }
    uint64_t length = (uint64_t)(footer - p);
    uint32_t crc = masked_crc(p, (int64_t)length);
    memcpy(footer, &crc, 4);
    p -= HEADER;
    memcpy(p, &length, 8);
    crc = masked_crc(p, 8);
    memcpy(p + 8, &crc, 4);
  }
  return p - out;
}

/* ---- reading ---- */

typedef struct {
  const uint8_t *at, *end;
} reader;

typedef struct {
  uint64_t number;
  int wire;
  const uint8_t *start; /* of its payload */
  int64_t size;
} field;

static int read_varint(reader *r, uint64_t *value) {
  uint64_t result = 0;
  for (int shift = 0; shift < 70 && r->at < r->end; shift += 7) {
    uint8_t byte = *r->at++;
    result |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) {
      *value = result;
      return 1;
    }
  }
  return 0;
}

/* 1 and the next field; 0 at the end; -1 for what is no message. */
static int next_field(reader *r, field *f) {
  uint64_t tag, size = 0;
  if (r->at == r->end) return 0;
  if (!read_varint(r, &tag) || tag >> 32 || !(tag >> 3)) return -1;
  f->number = tag >> 3;
  f->wire = (int)(tag & 7);
  f->start = r->at;
  switch (f->wire) {
    case 0:
      if (!read_varint(r, &size)) return -1;
      f->size = r->at - f->start;
      return 1;
    case 1: size = 8; break;
    case 5: size = 4; break;
    case 2:
      if (!read_varint(r, &size)) return -1;
      f->start = r->at;
      break;
    default: return -1; /* groups, gone since proto2 */
  }
  if (size > (uint64_t)(r->end - r->at)) return -1;
  f->size = (int64_t)size;
  r->at += size;
  return 1;
}

static int is_message(const field *f, uint64_t number) { return f->wire == 2 && f->number == number; }
static reader inside(const field *f) { return (reader){f->start, f->start + f->size}; }

/* The columns of one map by name: a guess at the next one, then a hash table of their numbers. */
typedef struct {
  const uint8_t *text;
  const int64_t *ends;
  int32_t first, count, *table, mask, guess;
} names;

static uint32_t hash(const uint8_t *p, int64_t size) {
  uint32_t h = 2166136261u;
  while (size-- > 0) h = (h ^ *p++) * 16777619u;
  return h ^ (h >> 15);
}

static void fill_table(names *n) {
  for (int32_t i = 0; i <= n->mask; i++) n->table[i] = -1;
  for (int32_t i = n->first; i < n->first + n->count; i++) {
    uint32_t at = hash(n->text + n->ends[i], n->ends[i + 1] - n->ends[i]);
    while (n->table[at & (uint32_t)n->mask] >= 0) at++;
    n->table[at & (uint32_t)n->mask] = i;
  }
}

static int is_named(const names *n, int32_t i, const uint8_t *key, int64_t size) {
  return n->ends[i + 1] - n->ends[i] == size && !memcmp(n->text + n->ends[i], key, (size_t)size);
}

static int32_t find(names *n, const uint8_t *key, int64_t size) {
  if (n->guess < n->first + n->count && is_named(n, n->guess, key, size)) return n->guess++;
  for (uint32_t at = hash(key, size);; at++) {
    int32_t i = n->table[at & (uint32_t)n->mask];
    if (i < 0) return -1;
    if (is_named(n, i, key, size)) {
      n->guess = i + 1;
      return i;
    }
  }
}

/* The values of one map, Features or FeatureLists; a name's last one counts. 0 for nonsense. */
static int index_map(reader r, const uint8_t *data, names *n, span *slots, int64_t rows,
                     int *unknown) {
  field entry, part;
  int more, inner;
  while ((more = next_field(&r, &entry)) > 0) {
    if (!is_message(&entry, 1)) continue;
    const uint8_t *key = entry.start;
    int64_t key_size = 0;
    span value = {entry.start + entry.size - data, 0};
    reader e = inside(&entry);
    while ((inner = next_field(&e, &part)) > 0) {
      if (is_message(&part, 1)) {
        key = part.start;
        key_size = part.size;
      } else if (is_message(&part, 2)) {
        value = (span){part.start - data, part.size};
      }
    }
    if (inner < 0) return 0;
    int32_t column = find(n, key, key_size);
    if (column >= 0) slots[column * rows] = value;
    else *unknown = 1;
  }
  return more == 0;
}

/* slots[column * rows + row]: the Feature (FeatureList, for the last `lists` columns) by name.
 * `lists` is -1 for Examples. A record that already has a problem is left alone. `table` has twice
 * table_size entries, a power of two above the number of columns. Returns the records done: with
 * `stop_at_unknown` those in front of the first that has a name which is no column's. */
int64_t tfr_index(const uint8_t *data, const span *records, int64_t rows, const uint8_t *text,
                  const int64_t *ends, int32_t context, int32_t lists, int32_t *table,
                  int32_t table_size, int32_t stop_at_unknown, span *slots, uint8_t *problems) {
  int is_sequence = lists >= 0;
  int32_t columns = context + (is_sequence ? lists : 0);
  names maps[2] = {{text, ends, 0, context, table, table_size - 1, 0},
                   {text, ends, context, columns - context, table + table_size, table_size - 1, 0}};
  fill_table(&maps[0]);
  fill_table(&maps[1]);
  for (int64_t i = 0; i < columns * rows; i++) slots[i] = (span){-1, 0};
  for (int64_t row = 0; row < rows; row++) {
    reader r = {data + records[row].start, data + records[row].start + records[row].size};
    field f;
    int more = 0, fine = 1, unknown = 0;
    if (problems[row]) continue;
    maps[0].guess = 0;
    maps[1].guess = context;
    while (fine && (more = next_field(&r, &f)) > 0) {
      if (is_message(&f, 1))
        fine = index_map(inside(&f), data, &maps[0], slots + row, rows, &unknown);
      else if (is_sequence && is_message(&f, 2))
        fine = index_map(inside(&f), data, &maps[1], slots + row, rows, &unknown);
    }
    if (!fine || more < 0) {
      problems[row] = MALFORMED;
      for (int32_t c = 0; c < columns; c++) slots[c * rows + row].start = -1;
    } else if (unknown && stop_at_unknown) {
      return row;
    }
  }
  return rows;
}

/* Next values of a list message: 1 with a field of `kind`, 0 at the end, -1 for nonsense. */
static int next_values(reader *r, int kind, field *f) {
  int more;
  while ((more = next_field(r, f)) > 0) {
    if (f->number != 1) continue;
    if (f->wire == 2 || (kind == 2 && f->wire == 5) || (kind == 3 && f->wire == 0)) return 1;
  }
  return more;
}

static int measure_list(reader r, int kind, int64_t *count, int64_t *size) {
  field f;
  int more;
  while ((more = next_values(&r, kind, &f)) > 0) {
    if (kind == 1) {
      ++*count;
      *size += f.size;
    } else if (kind == 2) {
      if (f.size % 4) return 0;
      *count += f.size / 4;
    } else {
      reader values = inside(&f);
      uint64_t value;
      for (; values.at < values.end; ++*count)
        if (!read_varint(&values, &value)) return 0;
    }
  }
  return more == 0;
}

/* Which list each Feature holds (0: none), how many values, and of strings their bytes. */
void tfr_measure(const uint8_t *data, const span *features, int64_t rows, uint8_t *kinds,
                 int64_t *counts, int64_t *sizes, uint8_t *problems) {
  for (int64_t row = 0; row < rows; row++) {
    kinds[row] = 0;
    counts[row] = sizes[row] = 0;
    if (features[row].start < 0) continue;
    const uint8_t *start = data + features[row].start;
    reader r = {start, start + features[row].size};
    field f;
    int more, fine = 1;
    while (fine && (more = next_field(&r, &f)) > 0) {
      if (f.wire != 2 || f.number < 1 || f.number > 3) continue;
      if (kinds[row] != f.number) counts[row] = sizes[row] = 0; /* a oneof: the last one counts */
      kinds[row] = (uint8_t)f.number;
      fine = measure_list(inside(&f), kinds[row], &counts[row], &sizes[row]);
    }
    if (!fine || more < 0) {
      problems[row] = MALFORMED;
      kinds[row] = 0;
      counts[row] = sizes[row] = 0;
    }
  }
}

/* The Features of each FeatureList: their `counts`, and with `features` where they are. */
int64_t tfr_split(const uint8_t *data, const span *lists, int64_t rows, int64_t *counts,
                  span *features, int64_t capacity, uint8_t *problems) {
  int64_t total = 0;
  for (int64_t row = 0; row < rows; row++) {
    int64_t before = total;
    counts[row] = 0;
    if (lists[row].start < 0) continue;
    const uint8_t *start = data + lists[row].start;
    reader r = {start, start + lists[row].size};
    field f;
    int more;
    while ((more = next_field(&r, &f)) > 0) {
      if (!is_message(&f, 1)) continue;
      if (features) {
        if (total >= capacity) return -1;
        features[total] = (span){f.start - data, f.size};
      }
      total++;
    }
    if (more < 0) {
      problems[row] = MALFORMED;
      total = before;
    }
    counts[row] = total - before;
  }
  return total;
}

/* Walks the values of a measured Feature: those of the oneof's last kind. */
typedef struct {
  reader feature, list;
  int wanted;
} cursor;

static cursor open_feature(const uint8_t *data, const span *feature) {
  const uint8_t *start = data + feature->start;
  cursor c = {{start, start + feature->size}, {start, start}, 0};
  reader r = c.feature;
  field f;
  while (next_field(&r, &f) > 0) {
    if (f.wire != 2 || f.number < 1 || f.number > 3) continue;
    if ((int)f.number == c.wanted) continue;
    c.wanted = (int)f.number;
    c.list = inside(&f);
    c.feature.at = r.at;
  }
  return c;
}

static int next_chunk(cursor *c, field *f) {
  field list;
  for (;;) {
    if (next_values(&c->list, c->wanted, f) > 0) return 1;
    do {
      if (next_field(&c->feature, &list) <= 0) return 0;
    } while (!is_message(&list, (uint64_t)c->wanted));
    c->list = inside(&list);
  }
}

int64_t tfr_int64s(const uint8_t *data, const span *features, int64_t rows, int64_t *out,
                   int64_t capacity) {
  int64_t total = 0;
  for (int64_t row = 0; row < rows; row++) {
    if (features[row].start < 0) continue;
    cursor c = open_feature(data, features + row);
    field f;
    while (c.wanted == 3 && next_chunk(&c, &f)) {
      reader values = inside(&f);
      uint64_t value;
      while (read_varint(&values, &value)) {
        if (total >= capacity) return -1;
        out[total++] = (int64_t)value;
      }
    }
  }
  return total;
}

/* Values of float lists, and those of int64 lists as floats. */
int64_t tfr_floats(const uint8_t *data, const span *features, int64_t rows, float *out,
                   int64_t capacity) {
  int64_t total = 0;
  for (int64_t row = 0; row < rows; row++) {
    if (features[row].start < 0) continue;
    cursor c = open_feature(data, features + row);
    field f;
    while (c.wanted >= 2 && next_chunk(&c, &f)) {
      if (c.wanted == 2) {
        if (f.size / 4 > capacity - total) return -1;
        memcpy(out + total, f.start, (size_t)f.size / 4 * 4);
        total += f.size / 4;
        continue;
      }
      reader values = inside(&f);
      uint64_t value;
      while (read_varint(&values, &value)) {
        if (total >= capacity) return -1;
        out[total++] = (float)(int64_t)value;
      }
    }
  }
  return total;
}

/* ends[i + 1]: where value i ends in `out`; ends[0] is 0. Returns the number of values. */
int64_t tfr_strings(const uint8_t *data, const span *features, int64_t rows, int64_t *ends,
                    int64_t capacity, uint8_t *out, int64_t bytes) {
  int64_t total = 0, at = 0;
  ends[0] = 0;
  for (int64_t row = 0; row < rows; row++) {
    if (features[row].start < 0) continue;
    cursor c = open_feature(data, features + row);
    field f;
    while (c.wanted == 1 && next_chunk(&c, &f)) {
      if (total >= capacity || f.size > bytes - at) return -1;
      memcpy(out + at, f.start, (size_t)f.size);
      at += f.size;
      ends[++total] = at;
    }
  }
  return total;
}
