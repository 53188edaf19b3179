//! Which type each tensor of a mix has: the choices of llama.cpp (`llama-quant.cpp`), as a table.

use oprel_gguf::QuantType;

use super::FileType;
use super::part::Part;

/// A condition of a rule, on the model or on where the tensor is in it.
#[derive(Clone, Copy)]
pub(crate) enum When {
    /// At least four query heads share a KV head.
    Shared,
    /// The above, or at least four experts.
    SharedOrExperts,
    /// Exactly eight experts.
    Eight,
    /// Not exactly eight experts.
    NotEight,
    /// Falcon.
    Falcon,
    /// Another architecture.
    NotFalcon,
    /// With an importance matrix.
    Imatrix,
    /// Without.
    NoImatrix,
    /// One of the first so many of its kind.
    First(usize),
    /// The first eighth of layers.
    Eighth,
    /// The first sixteenth.
    Sixteenth,
    /// The first and the last eighth, and every third layer between.
    MoreBits,
    /// Neither the first nor the last eighth.
    Middle,
}

/// A rule: parts and mixes it is for, all that must hold, the type.
type Rule = (&'static [Part], &'static [FileType], &'static [When], QuantType);

/// Mixes below about three bits, which have rules of their own.
const LOW: &[FileType] = {
    use FileType::*;
    &[IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ2_M]
};

const V_LIKE: &[Part] = &[Part::V, Part::Qkv, Part::KvB];

/// The rules of embedding and inner matrices; the first that fits counts, and the main type where none does.
#[rustfmt::skip]
const RULES: &[Rule] = {
    use {FileType as F, Part::*, QuantType as T, When::*};
    &[
        (&[Embedding], &[F::IQ1_S, F::IQ1_M, F::IQ2_XXS, F::IQ2_XS], &[], T::Q2_K),
        (&[Embedding], &[F::IQ2_S, F::IQ2_M, F::IQ3_XXS], &[], T::IQ3_S),
        (&[Embedding], &[F::TQ1_0, F::TQ2_0], &[], T::Q4_K),

        (V_LIKE, LOW, &[SharedOrExperts], T::Q4_K),
        (V_LIKE, &[F::IQ2_S, F::IQ2_M], &[], T::IQ3_S),
        (V_LIKE, LOW, &[], T::Q2_K),
        (&[K], LOW, &[Eight], T::Q4_K),
        (&[AttnOutput], LOW, &[Eight], T::Q5_K),
        (&[AttnOutput], &[F::IQ1_S, F::IQ1_M], &[], T::IQ2_XXS),
        (&[AttnOutput], &[F::IQ2_S, F::IQ2_M], &[], T::IQ3_S),

        (V_LIKE, &[], &[Eight], T::Q8_0),
        (V_LIKE, &[F::Q2_K], &[Shared], T::Q4_K),
        (V_LIKE, &[F::Q2_K], &[], T::Q3_K),
        (V_LIKE, &[F::Q2_K_S, F::IQ3_XXS, F::IQ3_XS, F::IQ3_S], &[Shared], T::Q4_K),
        (V_LIKE, &[F::IQ3_XXS], &[NoImatrix], T::IQ3_S),
        (V_LIKE, &[F::IQ3_M], &[], T::Q4_K),
        (V_LIKE, &[F::Q3_K_M], &[First(2)], T::Q5_K),
        (V_LIKE, &[F::Q3_K_M], &[], T::Q4_K),
        (V_LIKE, &[F::Q3_K_L], &[], T::Q5_K),
        (V_LIKE, &[F::IQ4_NL, F::IQ4_XS], &[Shared], T::Q5_K),
        (V_LIKE, &[F::Q4_K_M, F::Q5_K_M], &[MoreBits], T::Q6_K),
        (V_LIKE, &[F::Q4_K_S], &[First(4)], T::Q5_K),

        (&[K], &[], &[Eight], T::Q8_0),
        (&[K, Q], &[F::IQ3_XS], &[], T::IQ3_XXS),
        (&[K, Q], &[F::IQ3_XXS], &[], T::IQ2_S),
        (&[Gate, Up], &[F::IQ3_XS], &[Middle], T::IQ3_XXS),

        (&[Down], &[F::Q2_K], &[], T::Q3_K),
        (&[Down], &[F::Q2_K_S], &[Eighth], T::Q4_K),
        (&[Down], &[F::IQ3_XXS], &[NoImatrix, Eighth], T::Q4_K),
        (&[Down], &[F::IQ3_XXS], &[NoImatrix], T::Q3_K),
        (&[Down], &[F::Q3_K_M], &[Sixteenth], T::Q5_K),
        (&[Down], &[F::Q3_K_M], &[NotFalcon], T::Q4_K),
        (&[Down], &[F::Q3_K_M], &[MoreBits], T::Q4_K),
        (&[Down], &[F::IQ3_M], &[Eighth], T::Q4_K),
        (&[Down], &[F::IQ3_M], &[Eight, MoreBits], T::Q4_K),
        (&[Down], &[F::Q3_K_L], &[Falcon], T::Q4_K),
        (&[Down], &[F::Q3_K_L], &[], T::Q5_K),
        (&[Down], &[F::Q4_K_M], &[Falcon, Sixteenth], T::Q6_K),
        (&[Down], &[F::Q4_K_M], &[Falcon, MoreBits], T::Q5_K),
        (&[Down], &[F::Q4_K_M], &[NotFalcon, MoreBits], T::Q6_K),
        (&[Down], &[F::Q5_K_M], &[MoreBits], T::Q6_K),
        (&[Down], &[F::IQ4_NL, F::IQ4_XS], &[NoImatrix, Eighth], T::Q5_K),
        (&[Down], &[F::Q4_K_S], &[NotFalcon, Eighth], T::Q5_K),
        (&[Down], &[F::Q4_0], &[Imatrix, Eighth], T::Q4_1),
        (&[Down], &[F::Q5_0], &[Imatrix, Eighth], T::Q5_1),

        (&[AttnOutput], &[F::Q3_K_L], &[Falcon], T::Q4_K),
        (&[AttnOutput],
         &[F::Q2_K, F::IQ3_XS, F::IQ3_XXS, F::Q3_K_S, F::Q3_K_M, F::IQ4_NL, F::Q4_K_S, F::Q4_K_M, F::IQ3_S, F::IQ3_M, F::IQ4_XS],
         &[NotFalcon, Eight], T::Q5_K),
        (&[AttnOutput], &[F::Q2_K], &[NotFalcon, NotEight], T::Q3_K),
        (&[AttnOutput], &[F::IQ3_XXS], &[NotFalcon, NotEight], T::IQ3_S),
        (&[AttnOutput], &[F::Q3_K_M, F::IQ3_M], &[NotFalcon, NotEight], T::Q4_K),
        (&[AttnOutput], &[F::Q3_K_L], &[NotFalcon, NotEight], T::Q5_K),
    ]
};

/// Feed-forward outputs of the first layers in mixes of few bits, which are counted as they come even where
/// there are experts.
#[rustfmt::skip]
const LOW_DOWN: &[(&[FileType], QuantType)] = {
    use {FileType::*, QuantType as T};
    &[(&[IQ2_S, IQ2_M], T::IQ3_S), (LOW, T::Q2_K)]
};

/// What the rules know of a model.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    pub is_falcon: bool,
    /// Experts are told apart from other stacks of matrices by their names alone.
    pub is_bailingmoe3: bool,
    /// Of the size for which values of attention get more bits.
    pub is_70b: bool,
    pub n_experts: u64,
    /// Query heads that share a KV head in the first layer.
    pub n_shared: u64,
    pub has_imatrix: bool,
}

/// Where a tensor is among those of its kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// How many of its kind came before.
    pub nth: usize,
    /// Its layer, or `nth` where layers are counted so.
    pub layer: usize,
    /// Layers, or tensors of its kind.
    pub of: usize,
}

impl When {
    fn holds(self, facts: &Facts, at: Place) -> bool {
        let (i, n) = (at.layer, at.of);
        match self {
            When::Shared => facts.n_shared >= 4,
            When::SharedOrExperts => facts.n_shared >= 4 || facts.n_experts >= 4,
            When::Eight => facts.n_experts == 8,
            When::NotEight => facts.n_experts != 8,
            When::Falcon => facts.is_falcon,
            When::NotFalcon => !facts.is_falcon,
            When::Imatrix => facts.has_imatrix,
            When::NoImatrix => !facts.has_imatrix,
            When::First(count) => at.nth < count,
            When::Eighth => i < n / 8,
            When::Sixteenth => i < n / 16,
            When::Middle => i >= n / 8 && i < 7 * n / 8,
            When::MoreBits => i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2,
        }
    }
}

/// The type of an inner matrix, of `experts` in one tensor, or of an embedding that is not the output too.
pub(crate) fn inner(
    mix: FileType,
    part: Part,
    facts: &Facts,
    at: Place,
    experts: u64,
) -> QuantType {
    if mix == FileType::MXFP4_MOE {
        let is_expert = matches!(part, Part::Up | Part::Gate | Part::Down);
        let stacked = experts > 1 && (!facts.is_bailingmoe3 || is_expert);
        return if stacked { QuantType::MXFP4 } else { QuantType::Q8_0 };
    }
    if part == Part::Down && LOW.contains(&mix) {
        let first = LOW_DOWN.iter().find(|(mixes, _)| mixes.contains(&mix));
        return match first {
            Some((_, ty)) if at.nth < at.of / 8 => *ty,
            _ => mix.main_type(),
        };
    }
    let fits = |rule: &&Rule| {
        let (parts, mixes, when, _) = rule;
        parts.contains(&part)
            && (mixes.is_empty() && !LOW.contains(&mix) || mixes.contains(&mix))
            && when.iter().all(|when| when.holds(facts, at))
    };
    let ty = RULES.iter().find(fits).map_or(mix.main_type(), |rule| rule.3);
    let few_bits = matches!(ty, QuantType::Q3_K | QuantType::Q4_K);
    if facts.is_70b && part.is_v_like() && few_bits && !LOW.contains(&mix) {
        return QuantType::Q5_K;
    }
    ty
}

/// The type of what makes logits: the output, or the embedding where there is no output.
pub(crate) fn output(mix: FileType, facts: &Facts, columns: u64) -> QuantType {
    use FileType::*;
    let main = mix.main_type();
    if mix == MXFP4_MOE || facts.is_falcon || !columns.is_multiple_of(main.block_len() as u64) {
        return QuantType::Q8_0;
    }
    match mix {
        IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ2_M | IQ3_XXS => QuantType::Q5_K,
        _ if main == QuantType::Q8_0 => main,
        _ => QuantType::Q6_K,
    }
}

/// `ty`, or what stands in for it where rows of `columns` do not divide into its blocks.
pub(crate) fn fitting(ty: QuantType, columns: u64) -> QuantType {
    use QuantType::*;
    let fits = |ty: QuantType| columns.is_multiple_of(ty.block_len() as u64);
    if fits(ty) {
        return ty;
    }
    let instead = match ty {
        IQ1_S | IQ1_M | IQ2_XXS | IQ2_XS | IQ2_S | IQ3_XXS | IQ3_S | IQ4_XS => IQ4_NL,
        Q2_K | Q3_K | TQ1_0 | TQ2_0 => Q4_0,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        _ => F16,
    };
    if fits(instead) { instead } else { F16 }
}
