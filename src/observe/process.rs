//! The usual `process_*` metrics, with processor time to the microsecond.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{Counter, MetricFamily};

/// The collector of the `prometheus` crate counts processor time in whole seconds, so that for a process that uses less than one
/// between two scrapes the rate would mostly be 0.
pub(super) struct Process(ProcessCollector);

impl Process {
    pub(super) fn of_this() -> Process {
        Process(ProcessCollector::for_self())
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.0.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.0.collect();
        let processor = families.iter_mut().find(|family| family.name() == "process_cpu_seconds_total");
        if let (Some(family), Some(seconds)) = (processor, processor_seconds()) {
            for metric in family.mut_metric() {
                let mut counter = Counter::default();
                counter.set_value(seconds);
                metric.set_counter(counter);
            }
        }
        families
    }
}

/// User and system time of all threads, in seconds: getrusage(2).
fn processor_seconds() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    // 2^53 us are 285 years.
    #[expect(clippy::cast_precision_loss)]
    Some(micros as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::TextEncoder;

    #[test]
    fn processor_time_has_fractions_of_a_second() {
        let exposed = || {
            let text = TextEncoder::new().encode_to_string(&Process::of_this().collect()).unwrap();
            let seconds = text.lines().find_map(|line| line.strip_prefix("process_cpu_seconds_total "));
            seconds.and_then(|seconds| seconds.parse::<f64>().ok()).expect("it is among them")
        };
        let before = exposed();
        let mut sum = 0_u64;
        while exposed() - before < 0.001 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(exposed() > before);
    }
}
