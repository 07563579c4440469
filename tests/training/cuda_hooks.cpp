// Lets autograd believe in one CUDA device, for tensors without data: see test_fake_cuda.py.
#include <ATen/detail/CUDAHooksInterface.h>

namespace {
struct OneDevice : at::CUDAHooksInterface {
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return false; }
  c10::DeviceIndex deviceCount() const override { return 1; }
};
}  // namespace

// The hooks in force are an object without data, so another object's functions can take its place.
extern "C" void pretend() {
  static OneDevice pretended;
  *reinterpret_cast<void**>(const_cast<at::CUDAHooksInterface*>(&at::detail::getCUDAHooks())) =
      *reinterpret_cast<void**>(&pretended);
}
