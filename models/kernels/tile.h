// Register tiles: small matrix products whose accumulators stay in vector registers, and the exponential.
//
// Written with GCC's vector extensions (Clang lacks __builtin_shuffle); the width follows the instruction set of the
// build.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
constexpr int WIDTH = 16;       // floats in a vector
constexpr int ROWS = 8;         // rows of a tile of logits
constexpr int SPAN = 4;         // vectors of a tile of a gradient
constexpr int GRADIENT_ROWS = 4;
constexpr int ITEM_ROWS = 6;
#else
constexpr int WIDTH = 8;
constexpr int ROWS = 4;
constexpr int SPAN = 2;
constexpr int GRADIENT_ROWS = 4;
constexpr int ITEM_ROWS = 6;
#endif
constexpr int COLUMNS = 3;               // vectors of a tile of logits
constexpr int ITEMS = COLUMNS * WIDTH;   // items of a panel
static_assert(ROWS % GRADIENT_ROWS == 0 && ROWS % 2 == 0 && ITEMS % ITEM_ROWS == 0);

#define INLINE inline __attribute__((always_inline))

typedef float Vec __attribute__((vector_size(WIDTH * 4), may_alias));
typedef uint32_t IVec __attribute__((vector_size(WIDTH * 4), may_alias));
typedef float LooseVec __attribute__((vector_size(WIDTH * 4), aligned(4), may_alias));

INLINE Vec broadcast(float x) { return Vec{} + x; }
INLINE Vec load(const float* p) { return *reinterpret_cast<const LooseVec*>(p); }
INLINE void store(float* p, Vec v) { *reinterpret_cast<LooseVec*>(p) = v; }
INLINE Vec larger(Vec a, Vec b) { return b > a ? b : a; }  // a NaN in `a` stays

INLINE float sum(Vec v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(v);
#else
  float total = 0;
  for (int i = 0; i < WIDTH; ++i) total += v[i];
  return total;
#endif
}

INLINE float largest(Vec v) {
  float top = v[0];
  for (int i = 1; i < WIDTH; ++i) top = v[i] > top ? v[i] : top;
  return top;
}

// 2^x with a relative error below 2e-7; where the result would be below 2^-126 it is below 2^-125.
INLINE Vec power_of_two(Vec x) {
#if defined(__AVX512F__)
  const Vec n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  x = larger(x, broadcast(-126.f));
  const Vec shifted = x + 12582912.f;  // 1.5 * 2^23: the sum's low bits are round(x)
  const Vec n = shifted - 12582912.f;
#endif
  const Vec f = x - n;
  Vec p = broadcast(0x1.41d324p-13f);  // minimax polynomial on [-1/2, 1/2]
  p = p * f + 0x1.5f4582p-10f;
  p = p * f + 0x1.3b2dbcp-7f;
  p = p * f + 0x1.c6aed4p-5f;
  p = p * f + 0x1.ebfbdap-3f;
  p = p * f + 0x1.62e430p-1f;
  p = p * f + 1.f;
#if defined(__AVX512F__)
  return _mm512_scalef_ps(p, n);
#else
  const IVec bits = reinterpret_cast<const IVec&>(p) + (reinterpret_cast<const IVec&>(shifted) << 23);
  return reinterpret_cast<const Vec&>(bits);
#endif
}

// `scale` where one of WIDTH words reaches `least`, else 0.
INLINE Vec kept_words(const int16_t* words, int64_t least, float scale) {
  typedef int16_t Words __attribute__((vector_size(WIDTH * 2)));
  typedef int32_t Wide __attribute__((vector_size(WIDTH * 4)));
  Words w;
  memcpy(&w, words, sizeof w);
  return __builtin_convertvector(w, Wide) >= int32_t(least) ? broadcast(scale) : Vec{};
}

// WIDTH x WIDTH floats, out[c][r] = in[r][c]: swaps blocks of 1, 2, 4, ... columns between pairs of rows.
INLINE void transpose(Vec (&t)[WIDTH]) {
#pragma GCC unroll 8
  for (int h = 1; h < WIDTH; h *= 2) {
    IVec low, high;
    for (int i = 0; i < WIDTH; ++i) {
      low[i] = i & h ? WIDTH + i - h : i;
      high[i] = i & h ? WIDTH + i : i + h;
    }
#pragma GCC unroll 16
    for (int r = 0; r < WIDTH; ++r)
      if (!(r & h)) {
        const Vec a = t[r], b = t[r + h];
        t[r] = __builtin_shuffle(a, b, low);
        t[r + h] = __builtin_shuffle(a, b, high);
      }
  }
}

// Products of float32 numbers.
struct Float32 {
  struct Session {};                           // what a thread holds while it multiplies
  typedef float Element;                       // what is multiplied at a time
  static constexpr bool TILES = false;         // whether the processor's own tiles are multiplied
  static constexpr int GROUP = ROWS;           // rows of a block of logits
  static constexpr int PANEL = ITEMS;          // items of a block of logits
  static constexpr int STEP = WIDTH;           // widths are rounded up to a multiple
  static constexpr long CHUNK = 48;            // rows that the encoder's steps work on at a time
  static constexpr long CHUNK_STEP = ITEM_ROWS;  // rounded up to a multiple
  static constexpr int PACK = 1;               // numbers of the summed dimension in an element
  static constexpr long TILE = 64;             // rows that a thread works on at a time
  static constexpr long MANY_ITEMS = 1 << 14;  // beyond, keeping a tile's exponentials costs more than new logits

  static INLINE Vec multiply_add(Vec sum, float a, const float* b) { return broadcast(a) * load(b) + sum; }
  static INLINE float element(const float (&x)[1]) { return x[0]; }

  // WIDTH elements of the WIDTH * PACK neighbours from x on; of WIDTH columns of the PACK rows from x on.
  static INLINE void across(const float* x, float* to) { store(to, load(x)); }
  static INLINE void along(const float* x, long, float* to) { store(to, load(x)); }

  // Keep exponentials as operands of both gradients; here one copy serves as either.
  template <int C>
  static INLINE void keep(const Vec (&p)[1][C], float*, float* to) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) store(to + c * WIDTH, p[0][c]);
  }
};

#if defined(__AVX512BF16__)
// Products of numbers rounded to bfloat16, two at a time, summed in float32.
struct BFloat16 {
  struct Session {};
  typedef uint32_t Element;
  static constexpr bool TILES = false;
  static constexpr int GROUP = ROWS;
  static constexpr int PANEL = ITEMS;
  static constexpr int STEP = WIDTH;
  static constexpr long CHUNK = 48;
  static constexpr long CHUNK_STEP = ITEM_ROWS;
  static constexpr int PACK = 2;
  static constexpr long TILE = 128;
  static constexpr long MANY_ITEMS = 1 << 16;

  static INLINE Vec multiply_add(Vec sum, uint32_t a, const uint32_t* b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)_mm512_loadu_si512(b));
  }

  static INLINE uint32_t element(const float (&x)[2]) { return rounded(x[0]) | rounded(x[1]) << 16; }

  static INLINE void across(const float* x, uint32_t* to) {
    _mm512_storeu_si512(to, (__m512i)_mm512_cvtne2ps_pbh(load(x + WIDTH), load(x)));
  }
  static INLINE void along(const float* x, long row, uint32_t* to) {
    _mm512_storeu_si512(to, pairs(_mm512_cvtneps_pbh(load(x)), _mm512_cvtneps_pbh(load(x + row))));
  }

  // by_row: [2, C * WIDTH/2] pairs of items; by_item: [C * WIDTH] pairs of rows.
  template <int C>
  static INLINE void keep(const Vec (&p)[2][C], uint32_t* by_row, uint32_t* by_item) {
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) {
      const __m256bh even = _mm512_cvtneps_pbh(p[0][c]), odd = _mm512_cvtneps_pbh(p[1][c]);
      _mm256_storeu_si256((__m256i*)(by_row + c * 8), (__m256i)even);
      _mm256_storeu_si256((__m256i*)(by_row + (C + c) * 8), (__m256i)odd);
      _mm512_storeu_si512(by_item + c * WIDTH, pairs(even, odd));
    }
  }

 private:
  static INLINE __m512i pairs(__m256bh low, __m256bh high) {
    const __m512i upper = _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)high), 16);
    return _mm512_or_si512(_mm512_cvtepu16_epi32((__m256i)low), upper);
  }
  static INLINE uint32_t rounded(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  }
};
#endif

// tile += a b: a element (r, k) at a[r * a_row + k * a_step], row k of b at b + k * b_step.
template <class M, int R, int C>
INLINE void multiply(Vec (&tile)[R][C], const typename M::Element* a, long a_row, long a_step,
                     const typename M::Element* b, long b_step, long depth) {
  for (long k = 0; k < depth; ++k, a += a_step, b += b_step)
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int c = 0; c < C; ++c) tile[r][c] = M::multiply_add(tile[r][c], a[r * a_row], b + c * WIDTH);
}

// out = start + a b for R rows and C vectors of out, rows `out_row` floats apart; start (null: zeros) likewise.
template <class M, int R, int C>
INLINE void product_tile(float* out, long out_row, const float* start, long start_row, const typename M::Element* a,
                         long a_row, long a_step, const typename M::Element* b, long b_step, long depth) {
  Vec tile[R][C];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) tile[r][c] = start ? load(start + r * start_row + c * WIDTH) : Vec{};
  multiply<M>(tile, a, a_row, a_step, b, b_step, depth);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < C; ++c) store(out + r * out_row + c * WIDTH, tile[r][c]);
}

// out (+)= a b for `columns` columns, a multiple of WIDTH; at most C vectors at a time.
template <class M, int R, int C = SPAN>
INLINE void product(float* out, long out_row, long columns, bool add, const typename M::Element* a, long a_row,
                    long a_step, const typename M::Element* b, long b_step, long depth) {
  long c = 0;
  for (; c + C * WIDTH <= columns; c += C * WIDTH)
    product_tile<M, R, C>(out + c, out_row, add ? out + c : nullptr, out_row, a, a_row, a_step, b + c, b_step, depth);
  if constexpr (C > 1)
    if (c < columns)
      product<M, R, C - 1>(out + c, out_row, columns - c, add, a, a_row, a_step, b + c, b_step, depth);
}
