//! From the syntax tree of `promql-parser` to the part of the language that is evaluated here; everything else is rejected
//! by its name.

use promql_parser::label::MatchOp;
use promql_parser::parser::token::{self, TokenType};
use promql_parser::parser::{self, BinaryExpr, Call, LabelModifier, VectorMatchCardinality, VectorSelector};

use super::ast::{Aggregation, Expr, Grouping, Matching, Operator, RangeFunction, Selector, SimpleFunction};
use super::guard;
use crate::history::NAME;

/// Deepest nesting, a chain such as `a or b or c` included. Evaluation recurses once per level.
const DEPTH_MAX: usize = 256;

/// What rule files may call.
const FUNCTIONS: &str = "rate, increase, delta, max_over_time, min_over_time, avg_over_time, sum_over_time, \
                         count_over_time, abs, ceil, floor, histogram_quantile";

pub(super) fn parse(text: &str) -> Result<Expr, String> {
    guard::check(text)?;
    let expr = lower(&parser::parse(text)?, DEPTH_MAX)?;
    match expr {
        Expr::Range { .. } => {
            Err("a range selector has no value on its own; put it into a function such as rate".into())
        }
        expr => Ok(expr),
    }
}

fn lower(expr: &parser::Expr, depth: usize) -> Result<Expr, String> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(format!("it is nested deeper than {DEPTH_MAX}"));
    };
    let boxed = |expr: &parser::Expr| lower(expr, depth).map(Box::new);
    match expr {
        parser::Expr::NumberLiteral(number) => Ok(Expr::Number(number.val)),
        parser::Expr::Paren(paren) => lower(&paren.expr, depth),
        parser::Expr::Unary(unary) => Ok(Expr::Negated(boxed(&unary.expr)?)),
        parser::Expr::VectorSelector(vector) => Ok(Expr::Selector(selector(vector)?)),
        parser::Expr::MatrixSelector(matrix) => Ok(Expr::Range {
            selector: selector(&matrix.vs)?,
            range_ms: i64::try_from(matrix.range.as_millis()).map_err(|_| "the range is too long")?,
        }),
        parser::Expr::Call(call) => function(call, depth),
        parser::Expr::Aggregate(aggregate) => Ok(Expr::Aggregate {
            how: match aggregate.op.id() {
                token::T_SUM => Aggregation::Sum,
                token::T_MIN => Aggregation::Min,
                token::T_MAX => Aggregation::Max,
                token::T_AVG => Aggregation::Avg,
                token::T_COUNT => Aggregation::Count,
                _ => return Err(unsupported(aggregate.op, "sum, min, max, avg and count are")),
            },
            grouping: match &aggregate.modifier {
                None => Grouping::By(Vec::new()),
                Some(LabelModifier::Include(labels)) => Grouping::By(labels.labels.clone()),
                Some(LabelModifier::Exclude(labels)) => Grouping::Without(labels.labels.clone()),
            },
            inner: boxed(&aggregate.expr)?,
        }),
        parser::Expr::Binary(binary) => Ok(Expr::Binary {
            operator: operator(binary.op)?,
            is_bool: binary.return_bool(),
            matching: matching(binary)?,
            left: boxed(&binary.lhs)?,
            right: boxed(&binary.rhs)?,
        }),
        parser::Expr::Subquery(_) => Err("subqueries are not supported".into()),
        parser::Expr::StringLiteral(_) | parser::Expr::Extension(_) => {
            Err("a string has no value to compare".into())
        }
    }
}

fn unsupported(token: TokenType, instead: &str) -> String {
    format!("`{token}` is not supported; {instead}")
}

fn selector(vector: &VectorSelector) -> Result<Selector, String> {
    if vector.offset.is_some() {
        return Err("`offset` is not supported".into());
    }
    if vector.at.is_some() {
        return Err("`@` is not supported".into());
    }
    if !vector.matchers.or_matchers.is_empty() {
        return Err("`or` between label matchers is not supported".into());
    }
    let named =
        vector.matchers.matchers.iter().find(|matcher| matcher.name == NAME && matcher.op == MatchOp::Equal);
    let Some(name) = vector.name.clone().or_else(|| named.map(|matcher| matcher.value.clone())) else {
        return Err("a selector has to name its metric".into());
    };
    Ok(Selector { name, matchers: vector.matchers.matchers.clone() })
}

fn function(call: &Call, depth: usize) -> Result<Expr, String> {
    let args = &call.args.args;
    let lowered = |index: usize| {
        args.get(index)
            .ok_or_else(|| format!("{} lacks an argument", call.func.name))
            .and_then(|arg| lower(arg, depth))
    };
    let simple = |function| Ok(Expr::Simple { function, inner: Box::new(lowered(0)?) });
    let range = |function| match lowered(0)? {
        Expr::Range { selector, range_ms } => Ok(Expr::OverRange { function, selector, range_ms }),
        _ => Err(format!("{} needs a range such as [5m]", call.func.name)),
    };
    match call.func.name {
        "rate" => range(RangeFunction::Rate),
        "increase" => range(RangeFunction::Increase),
        "delta" => range(RangeFunction::Delta),
        "max_over_time" => range(RangeFunction::Max),
        "min_over_time" => range(RangeFunction::Min),
        "avg_over_time" => range(RangeFunction::Avg),
        "sum_over_time" => range(RangeFunction::Sum),
        "count_over_time" => range(RangeFunction::Count),
        "abs" => simple(SimpleFunction::Abs),
        "ceil" => simple(SimpleFunction::Ceil),
        "floor" => simple(SimpleFunction::Floor),
        "histogram_quantile" => {
            Ok(Expr::Quantile { quantile: Box::new(lowered(0)?), buckets: Box::new(lowered(1)?) })
        }
        name => Err(format!("`{name}` is not supported; these functions are: {FUNCTIONS}")),
    }
}

fn operator(token: TokenType) -> Result<Operator, String> {
    Ok(match token.id() {
        token::T_ADD => Operator::Add,
        token::T_SUB => Operator::Subtract,
        token::T_MUL => Operator::Multiply,
        token::T_DIV => Operator::Divide,
        token::T_MOD => Operator::Modulo,
        token::T_POW => Operator::Power,
        token::T_EQLC => Operator::Equal,
        token::T_NEQ => Operator::NotEqual,
        token::T_GTR => Operator::Greater,
        token::T_GTE => Operator::GreaterOrEqual,
        token::T_LSS => Operator::Less,
        token::T_LTE => Operator::LessOrEqual,
        token::T_LAND => Operator::And,
        token::T_LOR => Operator::Or,
        token::T_LUNLESS => Operator::Unless,
        _ => return Err(unsupported(token, "arithmetic, comparison, and, or and unless are")),
    })
}

fn matching(binary: &BinaryExpr) -> Result<Matching, String> {
    let Some(modifier) = &binary.modifier else { return Ok(Matching::Ignoring(Vec::new())) };
    match &modifier.card {
        VectorMatchCardinality::ManyToOne(_) => return Err("`group_left` is not supported".into()),
        VectorMatchCardinality::OneToMany(_) => return Err("`group_right` is not supported".into()),
        VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany => {}
    }
    if modifier.fill_values.lhs.is_some() || modifier.fill_values.rhs.is_some() {
        return Err("`fill` is not supported".into());
    }
    Ok(match &modifier.matching {
        None => Matching::Ignoring(Vec::new()),
        Some(LabelModifier::Include(labels)) => Matching::On(labels.labels.clone()),
        Some(LabelModifier::Exclude(labels)) => Matching::Ignoring(labels.labels.clone()),
    })
}
