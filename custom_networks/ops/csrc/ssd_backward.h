// State-space dual scan, backward. With g the gradient before the gate, L the gradient of the state and X = d x, every
// pass is the scan of the forward pass with other arguments, so neither S nor L is ever stored:
//
//   y[t]  = S[t] C[t]                                      forward in time
//   dC[t] = sum over heads of S[t]^T g[t]                  forward in time, on the transposed matrix
//   L[t]  = g[t] C[t]^T + a[t+1] L[t+1],  dX[t] = L[t] B[t]   backward in time
//   dB[t] = sum over heads of L[t]^T X[t]                  backward in time, on the transposed matrix
//
// The gradient of log a is e[t] = <L[t], a[t] S[t-1]> = e[t+1] + <g[t], y[t]> - <dX[t], X[t]>. Both products contain
// <g[t], X[t]> <B[t], C[t]>, which can be much larger than their difference; so the scans leave that term out, and it
// is added to y and dX only. The recursion still cancels over long sequences, and what is lost stays lost for all
// earlier steps; so it restarts every few steps from the scalar product of the two matrices.
#pragma once

#include <limits>

#include "ssd.h"

namespace scan {

// Gradients as Python passes them; dense. Those of B and C come in one part a slice, those of A, D, dt_bias in one part
// a batch; the caller adds the parts.
struct SsdGradients {
  const void* out;                  // (batch, length, heads, width)
  int64_t out_batch, out_time, out_head;
  const real* last_state;           // (batch, heads, width, states), or null
  void *x, *z;                      // (batch, length, heads, width)
  real *dt, *A, *D, *dt_bias;       // (batch, length, heads) (batch, heads) (batch, heads, width) (batch, heads)
  real *B, *C;                      // (slices, batch, length, groups, states), zero on entry
  real* initial_state;              // (batch, heads, width, states), or null
};

constexpr int kRestart = 16;
// A decay that leaves nothing of the state: its gradient is zero, not the rounding error of the steps behind it.
constexpr real kForgets = std::numeric_limits<real>::epsilon() / 2;
static_assert(kChunk % kRestart == 0);

struct SsdBackwardSpace {
  real *step, *slope, *decay;               // a number a step, for the whole sequence
  real *gy, *bc;                            // same: <g, y> without the term that is left out, and <B, C>
  real *X, *g, *out_p, *B, *C, *out_n, *dD; // rows of a chunk, in whole vectors
  vec *matrix, *transposed, *leaving;       // S or L; its transpose; S after every kRestart steps
  SsdBackwardSpace(Carver& from, int64_t chunks, int64_t width, int64_t states) {
    const int64_t wide = blocks_of(width) * kLanes, deep = blocks_of(states) * kLanes;
    for (real** steps : {&step, &slope, &decay, &gy, &bc}) *steps = from.take<real>(chunks * kChunk + 1);
    for (real** rows : {&X, &g, &out_p}) *rows = from.take<real>(kChunk * wide);
    for (real** rows : {&B, &C, &out_n}) *rows = from.take<real>(kChunk * deep);
    dD = from.take<real>(wide);
    matrix = from.take<vec>(wide / kLanes * states);
    transposed = from.take<vec>(deep / kLanes * width);
    leaving = from.take<vec>(chunks * (kChunk / kRestart) * (wide / kLanes) * states);
  }
};

// One head of one batch element.
template <class T>
class SsdBackward {
 public:
  SsdBackward(const Ssd& s, const SsdGradients& grad, int64_t batch, int64_t slice, int64_t index,
              SsdBackwardSpace space)
      : s_(s), grad_(grad), batch_(batch), index_(index), work_(space), head_(s, index), P_(s.width), N_(s.states),
        wide_(head_.padded), deep_(blocks_of(N_) * kLanes), size_(wide_ / kLanes * N_),
        g_(static_cast<const T*>(grad.out) + index * grad.out_head, grad.out_batch, grad.out_time, s.length, s.reverse),
        dx_(of_head(grad.x)), dz_(of_head(grad.z)),
        ddt_(grad.dt + index, s.length * s.heads, s.heads, s.length, s.reverse),
        dB_(of_group(grad.B, slice)), dC_(of_group(grad.C, slice)) {}

  void run() {
    const int64_t chunks = (s_.length + kChunk - 1) / kChunk, head = batch_ * s_.heads + index_;
    load_both(s_.initial_state, head);
    for (int64_t chunk = 0; chunk < chunks; ++chunk) forward(chunk);

    // The gradient of the last state enters the first backward step undecayed.
    work_.decay[s_.length] = 1;
    load_both(grad_.last_state, head);
    for (int64_t p = 0; p < wide_; ++p) work_.dD[p] = 0;
    for (int64_t chunk = chunks - 1; chunk >= 0; --chunk) backward(chunk);

    grad_.A[head] = dA_;
    if (grad_.dt_bias) grad_.dt_bias[head] = dbias_;
    if (grad_.D) std::memcpy(grad_.D + head * P_, work_.dD, P_ * sizeof(real));
    if (grad_.initial_state)
      store_matrix(work_.matrix, P_, N_, work_.decay[0], grad_.initial_state + head * P_ * N_);
  }

 private:
  Rows<T> of_head(void* to) const {
    T* base = to ? static_cast<T*>(to) + index_ * P_ : nullptr;
    return {base, s_.length * s_.heads * P_, s_.heads * P_, s_.length, s_.reverse != 0};
  }
  Rows<real> of_group(real* to, int64_t slice) const {
    const int64_t row = s_.groups * N_;
    return {to + slice * s_.batch * s_.length * row + Head<T>::group(s_, index_) * N_, s_.length * row, row, s_.length,
            s_.reverse != 0};
  }
  void load_both(const real* from, int64_t head) {
    if (from) from += head * P_ * N_;
    load_matrix(from, P_, N_, false, work_.matrix);
    load_matrix(from, P_, N_, true, work_.transposed);
  }
  int steps_of(int64_t start) const {
    return static_cast<int>(s_.length - start < kChunk ? s_.length - start : kChunk);
  }

  vec* leaving(int64_t t) const { return work_.leaving + t / kRestart * size_; }
  real product(const vec* one, const vec* other) const {
    vec sums[4] = {};
    for (int64_t i = 0; i < size_; ++i) sums[i % 4] += one[i] * other[i];
    return sum_lanes(sums[0] + sums[1] + (sums[2] + sums[3]));
  }

  // Reads X, g, B and C of a chunk and clears the buffers that collect results.
  void read(int64_t start, int steps, int ahead) {
    read_rows(head_.x, batch_, start, steps, P_, wide_, work_.step + start, ahead, work_.X);
    read_rows(g_, batch_, start, steps, P_, wide_, nullptr, ahead, work_.g);
    if (head_.z)
      for (int t = 0; t < steps; ++t)
        for (int64_t p = 0; p < P_; p += kLanes) {
          const vec z = load(head_.z.at(batch_, start + t) + p, lanes_at(P_, p));
          __builtin_prefetch(head_.z.at(batch_, start + t) + ahead * head_.z.time_stride + p);
          real* g = work_.g + t * wide_ + p;
          store(g, load(g) * z * sigmoid(z));
        }
    read_rows(head_.B, batch_, start, steps, N_, deep_, nullptr, ahead, work_.B);
    read_rows(head_.C, batch_, start, steps, N_, deep_, nullptr, ahead, work_.C);
    std::memset(work_.out_p, 0, steps * wide_ * sizeof(real));
    std::memset(work_.out_n, 0, steps * deep_ * sizeof(real));
  }
  void add_to_group(const Rows<real>& to, int64_t start, int steps) const {
    for (int t = 0; t < steps; ++t)
      for (int64_t n = 0; n < N_; n += kLanes) {
        real* row = to.at(batch_, start + t) + n;
        const int count = lanes_at(N_, n);
        store(row, load(row, count) + load(work_.out_n + t * deep_ + n), count);
      }
  }

  void forward(int64_t chunk) {
    const int64_t start = chunk * kChunk;
    const int steps = steps_of(start);
    real* decay = work_.decay + start;
    step_sizes(head_.dt, batch_, start, steps, head_.A, head_.bias, s_.softplus, work_.step + start, decay,
               work_.slope + start);
    read(start, steps, kChunk);
    const Table X{work_.X, wide_}, g{work_.g, wide_}, B{work_.B, deep_}, C{work_.C, deep_};
    for (int t = 0; t < steps; t += kRestart) {
      const int count = steps - t < kRestart ? steps - t : kRestart;
      matrix_scan<true>(Decays(decay + t, 1, count), X.from(t), B.from(t), C.from(t), wide_, N_, work_.matrix,
                        work_.out_p + t * wide_, wide_);
      std::memcpy(static_cast<void*>(leaving(start + t)), work_.matrix, size_ * sizeof(vec));
    }
    matrix_scan(Decays(decay, 1, steps), B, X, g, deep_, P_, work_.transposed, work_.out_n, deep_);
    add_to_group(dC_, start, steps);
    for (int t = 0; t < steps; ++t) {
      vec product = {}, shared = {};
      for (int64_t n = 0; n < N_; n += kLanes) shared += load(work_.B + t * deep_ + n) * load(work_.C + t * deep_ + n);
      const real bc = work_.bc[start + t] = sum_lanes(shared);
      for (int64_t p = 0; p < P_; p += kLanes) {
        const int count = lanes_at(P_, p);
        vec y = load(work_.out_p + t * wide_ + p);
        product += y * load(work_.g + t * wide_ + p);
        if (!head_.z) continue;
        y += load(work_.X + t * wide_ + p) * bc;
        const vec z = load(head_.z.at(batch_, start + t) + p, count);
        if (head_.skip) y += load(head_.skip + p, count) * load(head_.x.at(batch_, start + t) + p, count);
        store(dz_.at(batch_, start + t) + p,
              load(g_.at(batch_, start + t) + p, count) * y * silu_slope(z, sigmoid(z)), count);
      }
      work_.gy[start + t] = sum_lanes(product);
    }
  }

  void backward(int64_t chunk) {
    const int64_t start = chunk * kChunk;
    const int steps = steps_of(start);
    read(start, steps, -kChunk);
    // Rows from one behind `end` down; the decay that belongs to a step is that of the step after it.
    const real* decay = work_.decay + start;
    const auto before = [](const real* rows, int64_t stride, int end) {
      return Table{rows + (end - 1) * stride, -stride};
    };
    real restart[kChunk / kRestart] = {};
    for (int t = (steps - 1) / kRestart * kRestart; t >= 0; t -= kRestart) {
      const int end = t + kRestart < steps ? t + kRestart : steps;
      restart[t / kRestart] = decay[end] * product(work_.matrix, leaving(start + t));
      matrix_scan<true>(Decays(decay + end, -1, end - t), before(work_.g, wide_, end), before(work_.C, deep_, end),
                        before(work_.B, deep_, end), wide_, N_, work_.matrix, work_.out_p + (end - 1) * wide_, -wide_);
    }
    matrix_scan(Decays(decay + steps, -1, steps), before(work_.C, deep_, steps), before(work_.g, wide_, steps),
                before(work_.X, wide_, steps), deep_, P_, work_.transposed, work_.out_n + (steps - 1) * deep_, -deep_);
    add_to_group(dB_, start, steps);

    double e = 0;
    for (int t = steps - 1; t >= 0; --t) {
      if (t == steps - 1 || t % kRestart == kRestart - 1) e = restart[t / kRestart];
      const real step = work_.step[start + t], bc = work_.bc[start + t];
      vec dXx = {}, gx = {};
      for (int64_t p = 0; p < P_; p += kLanes) {
        const int count = lanes_at(P_, p);
        const vec x = load(head_.x.at(batch_, start + t) + p, count), gy = load(work_.g + t * wide_ + p);
        const vec dX = load(work_.out_p + t * wide_ + p);
        dXx += dX * x;
        gx += gy * x;
        vec dx = (dX + gy * bc) * step;
        if (head_.skip) dx += load(head_.skip + p, count) * gy;
        store(dx_.at(batch_, start + t) + p, dx, count);
        store(work_.dD + p, load(work_.dD + p) + gy * x);
      }
      const real along = sum_lanes(dXx);
      e += work_.gy[start + t] - step * along;
      if (decay[t] < kForgets) e = 0;
      const real ddt = (along + bc * sum_lanes(gx) + head_.A * e) * work_.slope[start + t];
      *ddt_.at(batch_, start + t) = ddt;
      dbias_ += ddt;
      dA_ += e * step;
    }
  }

  const Ssd& s_;
  const SsdGradients& grad_;
  const int64_t batch_, index_;
  const SsdBackwardSpace work_;
  const Head<T> head_;
  const int64_t P_, N_, wide_, deep_, size_;
  const Rows<const T> g_;
  const Rows<T> dx_, dz_;
  const Rows<real> ddt_, dB_, dC_;
  double dA_ = 0, dbias_ = 0;
};

template <class T>
bool ssd_backward(const Ssd& s, const SsdGradients& grad) {
  return over_heads<SsdBackwardSpace>(
      s, [&](int64_t batch, int64_t slice, int64_t begin, int64_t end, SsdBackwardSpace work) {
        for (int64_t head = begin; head < end; ++head) SsdBackward<T>(s, grad, batch, slice, head, work).run();
      },
      (s.length + kChunk - 1) / kChunk, s.width, s.states);
}

}  // namespace scan
