use super::*;

fn choice(ty: QuantType, n_bytes: u64, loss: f64) -> Choice {
    Choice { ty, n_bytes, loss }
}

#[test]
fn what_costs_more_for_less_is_not_chosen() {
    use QuantType::*;
    let all = vec![
        choice(Q8_0, 80, 0.001),
        choice(Q2_K, 20, 1.0),
        choice(Q4_0, 40, 0.5), // more bytes than Q4_K for more loss
        choice(Q4_K, 39, 0.1),
        choice(Q5_K, 60, 0.09), // above the line from Q4_K to Q8_0
    ];
    let kept: Vec<_> = hull(all).iter().map(|choice| choice.ty).collect();
    assert_eq!(kept, [Q2_K, Q4_K, Q8_0]);
}

#[test]
fn the_pick_is_the_best_that_fits() {
    use QuantType::*;
    let tensor = |scale: u64, loss: f64| {
        hull(vec![
            choice(Q2_K, 2 * scale, loss),
            choice(Q4_K, 4 * scale, loss / 4.0),
            choice(Q8_0, 8 * scale, loss / 64.0),
        ])
    };
    let choices = [tensor(10, 1.0), tensor(30, 1.0), tensor(5, 0.5)];
    let bytes = |picked: &[usize]| -> u64 {
        picked.iter().zip(&choices).map(|(at, all)| all[*at].n_bytes).sum()
    };
    let loss = |picked: &[usize]| -> f64 {
        picked.iter().zip(&choices).map(|(at, all)| all[*at].loss).sum()
    };
    assert_eq!(pick(&choices, 89), None);
    for room in 90..400 {
        let picked = pick(&choices, room).unwrap();
        assert!(bytes(&picked) <= room);
        // No single step that would fit is left out.
        for i in 0..3 {
            let mut more = picked.clone();
            more[i] += 1;
            assert!(more[i] == choices[i].len() || bytes(&more) > room, "{room} {picked:?}");
        }
        // Of what takes no more bytes nothing loses less, where the pick is on the hull.
        let mut at = [0; 3];
        for code in 0..27 {
            (at[0], at[1], at[2]) = (code / 9, code / 3 % 3, code % 3);
            let better = bytes(&at) <= bytes(&picked) && loss(&at) < loss(&picked) * 0.7;
            assert!(!better, "{room}: {at:?} is better than {picked:?}");
        }
    }
}
