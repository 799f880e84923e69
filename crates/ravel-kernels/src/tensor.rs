//! Between burn's tensors and slices, without a copy.

use burn::backend::{
    BackendTensor, DispatchAutodiffContext, DispatchDevice, DispatchTensor, DispatchTensorKind,
    flex::FlexTensor,
};
use burn::tensor::{Device, Tensor, TensorData};

/// What the CPU backend holds of a tensor: shared bytes, and how they are laid out.
pub type CpuTensor = FlexTensor;

/// Whether a device is the CPU backend, with automatic differentiation or without.
pub fn is_cpu(device: &Device) -> bool {
    let plain = device.clone().without_autodiff();
    matches!(plain.as_dispatch(), DispatchDevice::Flex(_))
}

/// The CPU backend's handle of a tensor that takes no part in automatic differentiation; nothing otherwise, so that the
/// caller goes burn's way. The handle shares the tensor's numbers: [`CpuTensor::as_slice`] reads them where the layout is
/// contiguous.
pub fn on_cpu<const D: usize>(tensor: &Tensor<D>) -> Option<CpuTensor> {
    take(tensor.clone()).ok()
}

/// As [`on_cpu`], but by value: a tensor that nobody else holds can be written in place (`storage_mut`).
///
/// # Errors
/// The tensor itself, if it is not on the CPU or takes part in automatic differentiation.
pub fn take<const D: usize>(tensor: Tensor<D>) -> Result<CpuTensor, Tensor<D>> {
    let dispatched = tensor.into_dispatch();
    match (dispatched.kind, dispatched.autodiff) {
        (
            DispatchTensorKind::Flex(BackendTensor::Float(tensor)),
            DispatchAutodiffContext::Disabled,
        ) => Ok(tensor),
        (kind, autodiff) => Err(Tensor::from_dispatch(DispatchTensor { kind, autodiff })),
    }
}

/// A tensor of the CPU backend's handle.
pub fn wrap<const D: usize>(tensor: CpuTensor) -> Tensor<D> {
    Tensor::from_dispatch(DispatchTensor {
        kind: DispatchTensorKind::Flex(BackendTensor::Float(tensor)),
        autodiff: DispatchAutodiffContext::Disabled,
    })
}

/// A tensor on the CPU of these numbers, which are not copied.
///
/// # Panics
/// If there are not as many as the shape has.
pub fn of_values<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    wrap(CpuTensor::from_data(TensorData::new(values, shape)))
}
