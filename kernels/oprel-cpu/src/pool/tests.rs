use super::*;
use crate::Parts;
use std::sync::atomic::AtomicU32;

#[test]
fn more_threads_than_any_machine_has_a_use_for_are_refused_before_one_is_started() {
    for asked in [MOST_THREADS + 1, usize::MAX] {
        let refused = Pool::new(asked).map(|pool| pool.n_threads());
        assert!(matches!(refused, Err(Error::Threads { asked: n }) if n == asked));
    }
}

#[test]
fn every_chunk_runs_once_whatever_the_number_of_threads() {
    for n_threads in [1, 2, 3, 16] {
        let mut pool = Pool::new(n_threads).unwrap();
        assert_eq!(pool.n_threads(), n_threads);
        for n_chunks in [0, 1, 2, 15, 16, 17, 1000] {
            let runs: Vec<AtomicU32> = (0..n_chunks).map(|_| AtomicU32::new(0)).collect();
            pool.run(n_chunks, |chunk, worker| {
                assert!(worker.index() < n_threads);
                runs[chunk].fetch_add(1, Ordering::Relaxed);
            });
            assert!(runs.iter().all(|n| n.load(Ordering::Relaxed) == 1), "{n_threads} {n_chunks}");
        }
    }
}

#[test]
fn regions_follow_each_other_without_mixing() {
    let mut pool = Pool::new(4).unwrap();
    let mut values = vec![0u32; 64];
    for round in 1..=2000 {
        pool.run_parts(Parts::new(&mut values, 5), |_, part, _| {
            part.iter_mut().for_each(|x| *x += 1);
        });
        assert!(values.iter().all(|x| *x == round));
    }
}

#[test]
fn parts_of_several_slices_go_together() {
    let (mut a, mut b) = (vec![0usize; 30], vec![0usize; 20]);
    let mut pool = Pool::new(3).unwrap();
    pool.run_parts((Parts::new(&mut a, 3), Parts::new(&mut b, 2)), |i, (a, b), _| {
        a.fill(i);
        b.fill(i);
    });
    assert!(a.iter().enumerate().all(|(j, x)| *x == j / 3));
    assert!(b.iter().enumerate().all(|(j, x)| *x == j / 2));
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
    for n_threads in [1, 2, 8] {
        let mut pool = Pool::new(n_threads).unwrap();
        for bad in [0, 7, 99] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(100, |chunk, _| assert!(chunk != bad, "chunk {chunk} is bad"));
            }));
            let payload = result.unwrap_err();
            assert_eq!(*payload.downcast::<String>().unwrap(), format!("chunk {bad} is bad"));
            let sum = AtomicUsize::new(0);
            pool.run(10, |chunk, _| {
                sum.fetch_add(chunk, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 45);
        }
    }
}

#[test]
fn sleeping_threads_wake_for_the_next_region() {
    let mut pool = Pool::new(3).unwrap();
    for _ in 0..3 {
        while pool.shared.asleep.load(Ordering::SeqCst) < 2 {
            std::thread::yield_now();
        }
        // No thread can take a second chunk before the others have taken one.
        let barrier = std::sync::Barrier::new(3);
        pool.run(3, |_, _| {
            barrier.wait();
        });
    }
}
