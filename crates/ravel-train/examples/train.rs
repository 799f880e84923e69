//! Temporary.
use ravel_train::*;
struct Printer(std::time::Instant);
impl Watch for Printer {
    fn event(&mut self, event: Event) {
        match event {
            Event::Step { done, values } if done % 20 != 0 => {
                let _ = values;
            }
            other => println!("{:.0}s {:?}", self.0.elapsed().as_secs_f64(), other),
        }
    }
    fn stop(&mut self) -> bool {
        false
    }
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let r = Recipe::open(a[1].as_ref()).unwrap();
    let out = train(
        &r,
        a[2].as_ref(),
        a.get(3).is_some(),
        &ravel_testkit::device(),
        &mut Printer(std::time::Instant::now()),
    );
    println!("{out:?}");
}
