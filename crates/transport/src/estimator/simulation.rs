//! The estimator on a simulated path: a bottleneck with a queue, in virtual time.

use rtc::rtcp::transport_feedbacks::cc_feedback_report::Ecn;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// A path of a capacity, with a queue of 400 ms and a round trip of 50 ms.
struct Path {
    control: Control,
    start: Instant,
    now: Instant,
    /// When the bottleneck is free again.
    free: Duration,
    capacity: f64,
    loss_permille: u64,
    /// Random delay of a packet, at the most: a busy machine.
    jitter: Duration,
    /// The application sends at most this.
    most_sent: f64,
    /// The application could send this.
    wanted: f64,
    /// A test of the path that is being sent: its rate and end.
    test: Option<(f64, Instant, Instant)>,
    id: u64,
    on_the_way: VecDeque<(Duration, PacketReport)>,
    owed_bits: f64,
    longest_queue: Duration,
}

impl Path {
    fn new(capacity: f64) -> Self {
        let start = Instant::now();
        Self {
            control: Control::new(1_000_000.0),
            start,
            now: start,
            free: Duration::ZERO,
            capacity,
            loss_permille: 0,
            jitter: Duration::ZERO,
            most_sent: MOST,
            wanted: 0.0,
            test: None,
            id: 0,
            on_the_way: VecDeque::new(),
            owed_bits: 0.0,
            longest_queue: Duration::ZERO,
        }
    }

    fn send(&mut self) {
        let at = self.now - self.start;
        let begin = self.free.max(at);
        self.id += 1;
        let queue = begin - at;
        let random = self.id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let arrived = queue < 400 * MS && random % 1000 >= self.loss_permille;
        if arrived {
            self.free = begin + Duration::from_secs_f64(9600.0 / self.capacity);
            self.longest_queue = self.longest_queue.max(queue);
        }
        let arrival = self.free + 25 * MS + self.jitter.mul_f64((random >> 10 & 0xff) as f64 / 255.0);
        let report = PacketReport {
            ssrc: 1,
            id: self.id,
            rtp_sequence_number: self.id as u16,
            is_twcc: true,
            twcc_sequence_number: self.id as u16,
            size: 1200,
            arrived,
            departure: self.now,
            arrival: arrived.then_some(arrival),
            ecn: Ecn::default(),
        };
        self.on_the_way.push_back((arrival + 25 * MS, report));
    }

    /// Runs for a time; returns the mean target of its last half.
    fn run(&mut self, time: Duration) -> f64 {
        let end = self.now + time;
        let half = self.now + time / 2;
        let (mut sum, mut count) = (0.0, 0.0);
        self.longest_queue = Duration::ZERO;
        let mut millis = 0;
        while self.now < end {
            let testing = self.test.map_or(0.0, |(rate, ..)| rate);
            self.owed_bits += self.control.target.min(self.most_sent).max(testing) / 1000.0;
            if let Some((_, began, end)) = self.test.filter(|(.., end)| self.now >= *end) {
                self.control.prober.left((began, end - MS));
                self.test = None;
            }
            while self.owed_bits >= 9600.0 {
                self.owed_bits -= 9600.0;
                self.send();
            }
            self.now += MS;
            millis += 1;
            if millis % 100 == 0 {
                let at = self.now - self.start;
                let mut batch = Vec::new();
                while self.on_the_way.front().is_some_and(|(back, _)| *back <= at) {
                    batch.extend(self.on_the_way.pop_front().map(|(_, report)| report));
                }
                if !batch.is_empty() {
                    self.control.feedback(self.now, &batch);
                    if let Some(rate) = self.control.test(self.now, self.wanted) {
                        self.test = Some((rate, self.now, self.now + 30 * MS));
                    }
                }
            }
            if self.now >= half {
                sum += self.control.target;
                count += 1.0;
            }
        }
        sum / count
    }
}

#[test]
fn a_wide_path_is_found_within_seconds() {
    let mut path = Path::new(4_000_000.0);
    path.run(6 * 1000 * MS);
    let mean = path.run(10 * 1000 * MS);
    assert!((2_600_000.0..4_100_000.0).contains(&mean), "{mean}");
}

#[test]
fn a_narrow_path_is_respected_soon_and_its_queue_stays_short() {
    let mut path = Path::new(500_000.0);
    path.run(3 * 1000 * MS);
    let mean = path.run(20 * 1000 * MS);
    assert!((330_000.0..520_000.0).contains(&mean), "{mean}");
    assert!(path.longest_queue < 250 * MS, "{:?}", path.longest_queue);
}

#[test]
fn a_path_that_becomes_narrow_is_followed_within_two_seconds() {
    let mut path = Path::new(3_000_000.0);
    path.run(10 * 1000 * MS);
    path.capacity = 800_000.0;
    path.run(2 * 1000 * MS);
    assert!(path.control.target < 900_000.0, "{}", path.control.target);
    let mean = path.run(10 * 1000 * MS);
    assert!((500_000.0..850_000.0).contains(&mean), "{mean}");
    path.capacity = 3_000_000.0;
    path.run(25 * 1000 * MS);
    assert!(path.control.target > 1_800_000.0, "and back: {}", path.control.target);
}

#[test]
fn a_sender_with_little_to_send_finds_no_bandwidth_that_nobody_tested() {
    let mut path = Path::new(10_000_000.0);
    path.most_sent = 800_000.0;
    path.run(30 * 1000 * MS);
    assert!(path.control.target < 800_000.0 * 1.6, "{}", path.control.target);
    assert!(path.control.target >= 1_000_000.0, "{}", path.control.target);
}

#[test]
fn small_layers_learn_by_tests_that_the_large_one_fits() {
    let mut path = Path::new(5_000_000.0);
    (path.most_sent, path.wanted) = (620_000.0, 2_600_000.0);
    path.run(4 * 1000 * MS);
    assert!(path.control.target > 2_300_000.0, "{}", path.control.target);
    path.run(20 * 1000 * MS);
    assert!(
        path.control.target < 3_000_000.0,
        "no more than is wanted: {}",
        path.control.target
    );
}

#[test]
fn tests_of_a_narrow_path_find_its_width_and_no_more() {
    let mut path = Path::new(1_100_000.0);
    (path.most_sent, path.wanted) = (620_000.0, 2_600_000.0);
    path.run(30 * 1000 * MS);
    assert!(
        (800_000.0..1_250_000.0).contains(&path.control.target),
        "{}",
        path.control.target
    );
    assert!(path.longest_queue < 150 * MS, "{:?}", path.longest_queue);
}

#[test]
fn sound_alone_on_a_busy_machine_leaves_room_for_the_first_picture() {
    let mut path = Path::new(10_000_000.0);
    path.most_sent = 60_000.0;
    path.jitter = 60 * MS;
    path.run(30 * 1000 * MS);
    assert!(path.control.target >= LEAST_UNTESTED, "{}", path.control.target);
    path.most_sent = MOST;
    path.jitter = Duration::ZERO;
    path.run(10 * 1000 * MS);
    assert!(path.control.target > 1_000_000.0, "{}", path.control.target);
}

#[test]
fn five_percent_of_random_loss_does_not_stop_the_call() {
    let mut path = Path::new(10_000_000.0);
    path.loss_permille = 50;
    let mean = path.run(30 * 1000 * MS);
    assert!(mean > 900_000.0, "{mean}");
    path.loss_permille = 250;
    path.run(10 * 1000 * MS);
    assert!(
        path.control.target < 400_000.0,
        "a quarter lost is congestion: {}",
        path.control.target
    );
}
