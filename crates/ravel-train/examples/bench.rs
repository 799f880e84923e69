use burn::nn::conv::*; use burn::nn::*; use burn::tensor::*; use burn::tensor::activation::*; use std::time::Instant;
fn t(name:&str, flops: f64, mut f: impl FnMut()) { f(); let n=5; let s=Instant::now(); for _ in 0..n {f()} let d=s.elapsed().as_secs_f64()/n as f64; println!("{name:40} {:8.2} ms {:7.1} GF/s", d*1e3, flops/d/1e9); }
fn main(){
 let dev=ravel_testkit::device(); let ad=dev.clone().autodiff();
 for (c,o,h) in [(32,32,32),(48,48,32),(64,64,16),(80,80,16),(128,128,8),(96,96,8),(80,192,16),(12,32,32),(48,12,32)] {
  let conv=Conv2dConfig::new([c,o],[3,3]).with_padding(PaddingConfig2d::Explicit(1,1,1,1)).init(&dev);
  let x: Tensor<4>=ravel_testkit::formula([32,c,h,h],1,1.0,&dev);
  let fl=2.0*32.0*(h*h*c*o*9) as f64;
  t(&format!("conv fwd {c}->{o} {h}"),fl,||{let y=conv.forward(x.clone()); std::hint::black_box(y.into_data());});
  let conv2=burn::module::Module::train(burn::module::Module::fork(conv.clone(), &ad));
  let xa=Tensor::from_inner(x.clone()).require_grad();
  t(&format!("conv fwd+bwd {c}->{o} {h}"),fl*3.0,||{let y=conv2.forward(xa.clone()).sum(); std::hint::black_box(y.backward());});
  // via matmul: [o, c*9] x [c*9, b*h*h]
  let w: Tensor<2>=ravel_testkit::formula([o,c*9],1,1.0,&dev); let m: Tensor<2>=ravel_testkit::formula([c*9,32*h*h],1,1.0,&dev);
  t(&format!("matmul {o}x{}x{}",c*9,32*h*h),fl,||{std::hint::black_box(w.clone().matmul(m.clone()).into_data());});
  let m2: Tensor<2>=ravel_testkit::formula([32*h*h,c],1,1.0,&dev); let w1:Tensor<2>=ravel_testkit::formula([c,o],1,1.0,&dev);
  t(&format!("matmul {}x{c}x{o}",32*h*h),fl/9.0,||{std::hint::black_box(m2.clone().matmul(w1.clone()).into_data());});
 }
 let x: Tensor<4>=ravel_testkit::formula([32,48,32,32],1,1.0,&dev); let xa=Tensor::from_inner(x.clone()).require_grad();
 t("relu fwd+bwd 1.5M",0.0,||{std::hint::black_box(relu(xa.clone()).sum().backward());});
 t("gelu fwd+bwd 1.5M",0.0,||{std::hint::black_box(gelu(xa.clone()).sum().backward());});
 t("silu fwd+bwd 1.5M",0.0,||{std::hint::black_box(silu(xa.clone()).sum().backward());});
 t("add fwd 1.5M",0.0,||{std::hint::black_box((x.clone()+x.clone()).into_data());});
 let a: Tensor<2>=ravel_testkit::formula([2592,256],1,1.0,&dev); let b: Tensor<2>=ravel_testkit::formula([256,1024],1,1.0,&dev);
 t("matmul 2592x256x1024",2.0*2592.0*256.0*1024.0,||{std::hint::black_box(a.clone().matmul(b.clone()).into_data());});
 let aa=Tensor::from_inner(a.clone()).require_grad(); let bb=Tensor::from_inner(b.clone()).require_grad();
 t("matmul fwd+bwd 2592x256x1024",6.0*2592.0*256.0*1024.0,||{std::hint::black_box(aa.clone().matmul(bb.clone()).sum().backward());});
 let q: Tensor<3>=ravel_testkit::formula([128,81,64],1,1.0,&dev); 
 t("bmm 128x81x64x81",2.0*128.0*81.0*64.0*81.0,||{std::hint::black_box(q.clone().matmul(q.clone().swap_dims(1,2)).into_data());});
 let s: Tensor<3>=ravel_testkit::formula([128,81,81],1,1.0,&dev);
 t("softmax 128x81x81",0.0,||{std::hint::black_box(softmax(s.clone(),2).into_data());});
 let l: Tensor<2>=ravel_testkit::formula([2048,2048],1,1.0,&dev);
 t("log_softmax 2048x2048",0.0,||{std::hint::black_box(log_softmax(l.clone(),1).into_data());});
 let la=Tensor::from_inner(l.clone()).require_grad();
 t("log_softmax fwd+bwd 2048x2048",0.0,||{std::hint::black_box(log_softmax(la.clone(),1).sum().backward());});
}
