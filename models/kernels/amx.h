// Products of bfloat16 numbers on the matrix units of Intel's processors (AMX): tiles of 16 x 16 sums, 32 deep.
#pragma once
#include <algorithm>

#include "tile.h"

#if defined(__AMX_BF16__)
// Rows of a tile are `row` 32-bit numbers apart. Some headers of GCC 11 take the first word of an address alone.
#define LOAD_TILE(tile, from, row) _tile_loadd(tile, (from), ((row) * 4))
#define STORE_TILE(tile, to, row) _tile_stored(tile, (to), ((row) * 4))

// Eight tile registers: 0 to 3 are sums, 4 and 5 rows of a, 6 and 7 columns of b.
struct Amx : BFloat16 {
  static constexpr bool TILES = true;
  static constexpr int GROUP = 32;
  static constexpr int PANEL = 64;
  static constexpr long TILE = 256;
  static constexpr int STEP = 32;
  static constexpr long CHUNK = 64;
  static constexpr long CHUNK_STEP = 32;

  // The thread's tile registers, as long as the object lives. Not by _tile_loadconfig: to GCC before 14 that reads
  // eight bytes of the shape (PR 114098).
  struct Session {
    Session() {
      struct {
        uint8_t palette = 1, start_row = 0, reserved[14] = {};
        uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};  // of a row
        uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
      } shape;
      static_assert(sizeof shape == 64);
      asm volatile("ldtilecfg %0" ::"m"(shape));
    }
    ~Session() { _tile_release(); }
    Session(const Session&) = delete;
  };

  // Rounds two rows of exponentials: by_row [2, C * WIDTH/2] pairs of items, by_item [C * WIDTH] pairs of rows, the items
  // of the latter in the order of `place`.
  template <int C>
  static INLINE void keep(const Vec (&p)[2][C], uint32_t* by_row, uint32_t* by_item) {
#pragma GCC unroll 8
    for (int c = 0; c < C; c += 2) {
      const __m512i even = (__m512i)_mm512_cvtne2ps_pbh(p[0][c + 1], p[0][c]);
      const __m512i odd = (__m512i)_mm512_cvtne2ps_pbh(p[1][c + 1], p[1][c]);
      _mm512_storeu_si512(by_row + c * 8, even);
      _mm512_storeu_si512(by_row + (C + c) * 8, odd);
      _mm512_storeu_si512(by_item + c * WIDTH, _mm512_unpacklo_epi16(even, odd));
      _mm512_storeu_si512(by_item + (c + 1) * WIDTH, _mm512_unpackhi_epi16(even, odd));
    }
  }
  static INLINE long place(long item) {  // among 32: unpacking takes fours from each 128 bits
    return (item & ~31) | (item & 4) << 2 | (item & 24) >> 1 | (item & 3);
  }
  static INLINE long item(long place) { return (place & ~31) | (place & 12) << 1 | (place & 16) >> 2 | (place & 3); }

  // One row of `dim` floats (null: zeros) times `factor` as width/2 elements.
  static INLINE void row(const float* x, float factor, long dim, long width, uint32_t* to) {
    for (long d = 0; d < width; d += 2 * WIDTH) {
      Vec own[2] = {};
      if (x)
        for (int j = 0; j < 2; ++j)
          for (long i = d + j * WIDTH; i < std::min(d + (j + 1) * WIDTH, dim); ++i) own[j][i % WIDTH] = x[i] * factor;
      across(reinterpret_cast<const float*>(own), to + d / 2);
    }
  }

  // 32 rows of WIDTH floats, `row` floats apart, each times its factor (null: 1), as pairs of rows, turned: [WIDTH, 16].
  static INLINE void turn_pairs(const float* x, long row, const float* factor, uint32_t* to, long step) {
    Vec t[WIDTH];
    for (int r = 0; r < WIDTH; ++r) {
      Vec own[2] = {load(x + 2 * r * row), load(x + (2 * r + 1) * row)};
      if (factor) own[0] *= factor[2 * r], own[1] *= factor[2 * r + 1];
      along(reinterpret_cast<const float*>(own), WIDTH, reinterpret_cast<uint32_t*>(t + r));
    }
    transpose(t);
    for (int r = 0; r < WIDTH; ++r) store(reinterpret_cast<float*>(to + r * step), t[r]);
  }

  // out = start + a b: out [32, columns], a [32, depth], b [depth, columns] with rows out_row, a_row, b_row elements
  // apart; columns is a multiple of 32, depth of 16. Rows of start (null: zeros) are start_row apart, with 0 one row.
  static INLINE void product(float* out, long out_row, long columns, const float* start, long start_row,
                             const uint32_t* a, long a_row, const uint32_t* b, long b_row, long depth) {
    asm volatile("" ::: "memory");  // the headers do not say that loads of tiles read memory
    for (long c = 0; c < columns; c += 32) {
      if (start) {
        const float *upper = start + c, *lower = upper + 16 * start_row;
        LOAD_TILE(0, upper, start_row);
        LOAD_TILE(1, upper + 16, start_row);
        LOAD_TILE(2, lower, start_row);
        LOAD_TILE(3, lower + 16, start_row);
      } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
      }
      for (long k = 0; k < depth; k += 16) {
        LOAD_TILE(4, a + k, a_row);
        LOAD_TILE(6, b + k * b_row + c, b_row);
        _tile_dpbf16ps(0, 4, 6);
        LOAD_TILE(7, b + k * b_row + c + 16, b_row);
        _tile_dpbf16ps(1, 4, 7);
        LOAD_TILE(5, a + 16 * a_row + k, a_row);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
      float *upper = out + c, *lower = upper + 16 * out_row;
      STORE_TILE(0, upper, out_row);
      STORE_TILE(1, upper + 16, out_row);
      STORE_TILE(2, lower, out_row);
      STORE_TILE(3, lower + 16, out_row);
    }
  }
};
#undef LOAD_TILE
#undef STORE_TILE
typedef Amx Half;
#elif defined(__AVX512BF16__)
typedef BFloat16 Half;
#endif
