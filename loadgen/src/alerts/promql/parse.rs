//! From words to an expression whose types are right.
//!
//! Precedence, loosest first: `or`; `and`, `unless`; comparisons; `+ -`; `* / %`; unary minus; `^`, which alone
//! binds to the right.

use regex_lite::Regex;

use super::Mistake;
use super::ast::{
    Aggregation, Expr, Grouping, Matcher, Matching, Operator, RangeFunction, Selector, SimpleFunction, Test,
};
use super::lex::{self, Placed, Token};

/// Deepest nesting: a rule of a person has less than ten, and each costs stack.
const DEPTH_MAX: usize = 100;

const FUNCTIONS: &str = "rate, increase, delta, max_over_time, min_over_time, avg_over_time, sum_over_time, \
                         count_over_time, histogram_quantile, abs, ceil, floor; sum, min, max, avg and count \
                         aggregate";

pub(super) fn parse(text: &str) -> Result<Expr, Mistake> {
    let mut parser = Parser { words: lex::words(text)?, at: 0, depth: 0 };
    let expr = parser.binary(0)?;
    match parser.peek() {
        Token::End => {}
        other => return Err(parser.unexpected(&describe(other), "the end")),
    }
    if let Expr::Range { .. } = expr {
        return Err(Mistake {
            character: 1,
            reason: "a range has to stand in a function such as rate".into(),
        });
    }
    Ok(expr)
}

struct Parser {
    words: Vec<Placed>,
    at: usize,
    depth: usize,
}

fn describe(token: &Token) -> String {
    match token {
        Token::Word(word) => format!("`{word}`"),
        Token::Number(number) => format!("{number}"),
        Token::Text(text) => format!("{text:?}"),
        Token::Duration(ms) => format!("a duration of {ms} ms"),
        Token::Sign(sign) => format!("`{sign}`"),
        Token::End => "the end".to_owned(),
    }
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.words[self.at].0
    }

    fn character(&self) -> usize {
        self.words[self.at].1
    }

    fn next(&mut self) -> Token {
        let token = self.words[self.at].0.clone();
        // The end stays.
        self.at = (self.at + 1).min(self.words.len() - 1);
        token
    }

    fn mistake(&self, reason: impl Into<String>) -> Mistake {
        Mistake { character: self.character(), reason: reason.into() }
    }

    fn unexpected(&self, found: &str, wanted: &str) -> Mistake {
        self.mistake(format!("{found} where {wanted} should be"))
    }

    fn takes(&mut self, sign: &str) -> bool {
        let is_there = matches!(self.peek(), Token::Sign(found) if *found == sign);
        if is_there {
            self.next();
        }
        is_there
    }

    fn wants(&mut self, sign: &str) -> Result<(), Mistake> {
        if self.takes(sign) {
            Ok(())
        } else {
            Err(self.unexpected(&describe(self.peek()), &format!("`{sign}`")))
        }
    }

    fn takes_word(&mut self, wanted: &str) -> bool {
        let is_there = matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(wanted));
        if is_there {
            self.next();
        }
        is_there
    }

    /// Operators that bind at least as strongly as `least`.
    fn binary(&mut self, least: u8) -> Result<Expr, Mistake> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.mistake(format!("nested more than {DEPTH_MAX} deep")));
        }
        let mut left = self.unary()?;
        while let Some((operator, strength)) = self.operator().filter(|&(_, strength)| strength >= least) {
            let character = self.character();
            self.next();
            let is_bool = self.takes_word("bool");
            let matching = self.matching()?;
            // Only the power binds to the right.
            let right = self.binary(if operator == Operator::Power { strength } else { strength + 1 })?;
            left = joined(operator, is_bool, matching, left, right)
                .map_err(|reason| Mistake { character, reason })?;
        }
        self.depth -= 1;
        Ok(left)
    }

    fn operator(&self) -> Option<(Operator, u8)> {
        Some(match self.peek() {
            Token::Word(word) => match &*word.to_ascii_lowercase() {
                "or" => (Operator::Or, 1),
                "and" => (Operator::And, 2),
                "unless" => (Operator::Unless, 2),
                _ => return None,
            },
            Token::Sign(sign) => match *sign {
                "==" => (Operator::Equal, 3),
                "!=" => (Operator::NotEqual, 3),
                ">" => (Operator::Greater, 3),
                ">=" => (Operator::GreaterOrEqual, 3),
                "<" => (Operator::Less, 3),
                "<=" => (Operator::LessOrEqual, 3),
                "+" => (Operator::Add, 4),
                "-" => (Operator::Subtract, 4),
                "*" => (Operator::Multiply, 5),
                "/" => (Operator::Divide, 5),
                "%" => (Operator::Modulo, 5),
                "^" => (Operator::Power, 7),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn matching(&mut self) -> Result<Matching, Mistake> {
        let matching = if self.takes_word("on") {
            Matching::On(self.label_list()?)
        } else if self.takes_word("ignoring") {
            Matching::Ignoring(self.label_list()?)
        } else {
            Matching::Ignoring(Vec::new())
        };
        if let Token::Word(word) = self.peek()
            && matches!(&**word, "group_left" | "group_right")
        {
            return Err(self.mistake(format!("`{word}` is not understood here: only one sample to one")));
        }
        Ok(matching)
    }

    fn label_list(&mut self) -> Result<Vec<String>, Mistake> {
        self.wants("(")?;
        let mut labels = Vec::new();
        while !self.takes(")") {
            match self.peek().clone() {
                Token::Word(word) => labels.push(word),
                other => return Err(self.unexpected(&describe(&other), "a label")),
            }
            self.next();
            if !self.takes(",") {
                self.wants(")")?;
                break;
            }
        }
        Ok(labels)
    }

    fn unary(&mut self) -> Result<Expr, Mistake> {
        let character = self.character();
        if self.takes("-") {
            let inner = self.binary(6)?;
            return match inner {
                Expr::Number(number) => Ok(Expr::Number(-number)),
                Expr::Range { .. } => Err(Mistake { character, reason: "a range has no sign".to_owned() }),
                inner => Ok(Expr::Negated(Box::new(inner))),
            };
        }
        if self.takes("+") {
            return self.binary(6);
        }
        let expr = self.primary()?;
        if matches!(self.peek(), Token::Sign("[")) {
            return Err(self.mistake("subqueries are not understood here"));
        }
        if matches!(self.peek(), Token::Sign("@"))
            || matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case("offset"))
        {
            return Err(self.mistake(format!("{} is not understood here", describe(self.peek()))));
        }
        Ok(expr)
    }

    fn primary(&mut self) -> Result<Expr, Mistake> {
        let token = self.peek().clone();
        let character = self.character();
        match token {
            Token::Number(number) => {
                self.next();
                Ok(Expr::Number(number))
            }
            Token::Sign("(") => {
                self.next();
                let inner = self.binary(0)?;
                self.wants(")")?;
                Ok(inner)
            }
            Token::Sign("{") => self.selector(None, character),
            Token::Word(word) => {
                self.next();
                let lower = word.to_ascii_lowercase();
                let is_call = matches!(self.peek(), Token::Sign("("));
                let is_grouped = matches!(self.peek(), Token::Word(next)
                    if matches!(&*next.to_ascii_lowercase(), "by" | "without"));
                match (&*lower, aggregation(&lower)) {
                    (_, Some(how)) if is_call || is_grouped => self.aggregate(how),
                    ("inf", _) if !is_call => Ok(Expr::Number(f64::INFINITY)),
                    ("nan", _) if !is_call => Ok(Expr::Number(f64::NAN)),
                    _ if is_call || is_grouped => self.call(&word, character),
                    _ => self.selector(Some(word), character),
                }
            }
            other => Err(self.unexpected(&describe(&other), "a metric, a function or a number")),
        }
    }

    fn selector(&mut self, name: Option<String>, character: usize) -> Result<Expr, Mistake> {
        let mut selector = Selector { name: name.unwrap_or_default(), matchers: Vec::new() };
        if self.takes("{") {
            while !self.takes("}") {
                self.matcher(&mut selector)?;
                if !self.takes(",") {
                    self.wants("}")?;
                    break;
                }
            }
        }
        if selector.name.is_empty() {
            return Err(Mistake { character, reason: "a selector has to name its metric".to_owned() });
        }
        if !self.takes("[") {
            return Ok(Expr::Selector(selector));
        }
        let Token::Duration(range_ms) = *self.peek() else {
            return Err(self.unexpected(&describe(self.peek()), "a duration such as 5m"));
        };
        if range_ms == 0 {
            return Err(self.mistake("a range has to be longer than nothing"));
        }
        self.next();
        if matches!(self.peek(), Token::Sign(":")) {
            return Err(self.mistake("subqueries are not understood here"));
        }
        self.wants("]")?;
        Ok(Expr::Range { selector, range_ms })
    }

    fn matcher(&mut self, selector: &mut Selector) -> Result<(), Mistake> {
        let Token::Word(label) = self.peek().clone() else {
            return Err(self.unexpected(&describe(self.peek()), "a label"));
        };
        self.next();
        let sign = match self.peek() {
            Token::Sign(sign @ ("=" | "!=" | "=~" | "!~")) => *sign,
            other => return Err(self.unexpected(&describe(other), "=, !=, =~ or !~")),
        };
        self.next();
        let Token::Text(text) = self.peek().clone() else {
            return Err(self.unexpected(&describe(self.peek()), "a text in quotes"));
        };
        if label == super::super::history::NAME {
            if sign != "=" || !selector.name.is_empty() {
                return Err(self.mistake("the name of the metric can only be given once, by ="));
            }
            selector.name = text;
        } else {
            let regex = |text: &str| Regex::new(&format!("^(?s:{text})$"));
            let test = match sign {
                "=" => Ok(Test::Is(text)),
                "!=" => Ok(Test::IsNot(text)),
                "=~" => regex(&text).map(Test::Fits),
                _ => regex(&text).map(Test::FitsNot),
            };
            let test = test.map_err(|error| self.mistake(format!("no regular expression: {error}")))?;
            selector.matchers.push(Matcher { label, test });
        }
        self.next();
        Ok(())
    }

    fn aggregate(&mut self, how: Aggregation) -> Result<Expr, Mistake> {
        let before = self.grouping()?;
        self.wants("(")?;
        let character = self.character();
        let inner = self.binary(0)?;
        vector(&inner).map_err(|reason| Mistake { character, reason })?;
        self.wants(")")?;
        let grouping = match before {
            Some(grouping) => grouping,
            None => self.grouping()?.unwrap_or(Grouping::By(Vec::new())),
        };
        Ok(Expr::Aggregate { how, grouping, inner: Box::new(inner) })
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, Mistake> {
        if self.takes_word("by") {
            Ok(Some(Grouping::By(self.label_list()?)))
        } else if self.takes_word("without") {
            Ok(Some(Grouping::Without(self.label_list()?)))
        } else {
            Ok(None)
        }
    }

    fn call(&mut self, name: &str, character: usize) -> Result<Expr, Mistake> {
        if let Some(function) = range_function(name) {
            self.wants("(")?;
            let character = self.character();
            let inner = self.binary(0)?;
            self.wants(")")?;
            return match inner {
                Expr::Range { selector, range_ms } => Ok(Expr::OverRange { function, selector, range_ms }),
                _ => Err(Mistake { character, reason: format!("{name} needs a range such as metric[5m]") }),
            };
        }
        let simple = match name {
            "abs" => Some(SimpleFunction::Abs),
            "ceil" => Some(SimpleFunction::Ceil),
            "floor" => Some(SimpleFunction::Floor),
            _ => None,
        };
        if simple.is_none() && name != "histogram_quantile" {
            let reason = format!("`{name}` is not understood here, which are: {FUNCTIONS}");
            return Err(Mistake { character, reason });
        }
        self.wants("(")?;
        let first_at = self.character();
        let first = self.binary(0)?;
        let expr = if let Some(function) = simple {
            vector(&first).map_err(|reason| Mistake { character: first_at, reason })?;
            Expr::Simple { function, inner: Box::new(first) }
        } else {
            if !first.is_scalar() {
                let reason = "the quantile has to be one number".to_owned();
                return Err(Mistake { character: first_at, reason });
            }
            self.wants(",")?;
            let character = self.character();
            let buckets = self.binary(0)?;
            vector(&buckets).map_err(|reason| Mistake { character, reason })?;
            Expr::Quantile { quantile: Box::new(first), buckets: Box::new(buckets) }
        };
        self.wants(")")?;
        Ok(expr)
    }
}

fn aggregation(word: &str) -> Option<Aggregation> {
    Some(match word {
        "sum" => Aggregation::Sum,
        "min" => Aggregation::Min,
        "max" => Aggregation::Max,
        "avg" => Aggregation::Avg,
        "count" => Aggregation::Count,
        _ => return None,
    })
}

fn range_function(word: &str) -> Option<RangeFunction> {
    Some(match word {
        "rate" => RangeFunction::Rate,
        "increase" => RangeFunction::Increase,
        "delta" => RangeFunction::Delta,
        "max_over_time" => RangeFunction::Max,
        "min_over_time" => RangeFunction::Min,
        "avg_over_time" => RangeFunction::Avg,
        "sum_over_time" => RangeFunction::Sum,
        "count_over_time" => RangeFunction::Count,
        _ => return None,
    })
}

/// Samples with labels, neither a number nor a range.
fn vector(expr: &Expr) -> Result<(), String> {
    match expr {
        Expr::Range { .. } => Err("a range has to stand in a function such as rate".to_owned()),
        expr if expr.is_scalar() => Err("a number, where samples of a metric should be".to_owned()),
        _ => Ok(()),
    }
}

fn joined(
    operator: Operator,
    is_bool: bool,
    matching: Matching,
    left: Expr,
    right: Expr,
) -> Result<Expr, String> {
    let is_range = |side: &Expr| matches!(side, Expr::Range { .. });
    if is_range(&left) || is_range(&right) {
        return Err("a range has to stand in a function such as rate".to_owned());
    }
    let scalars = usize::from(left.is_scalar()) + usize::from(right.is_scalar());
    if is_bool && !operator.is_comparison() {
        return Err("bool belongs to comparisons".to_owned());
    }
    if operator.is_set() && scalars > 0 {
        return Err("and, or and unless join samples of metrics, not numbers".to_owned());
    }
    if operator.is_comparison() && scalars == 2 && !is_bool {
        return Err("two numbers are compared with bool, as in 1 > bool 0".to_owned());
    }
    if scalars > 0 && matching != Matching::Ignoring(Vec::new()) {
        return Err("on and ignoring belong between samples of metrics".to_owned());
    }
    Ok(Expr::Binary { operator, is_bool, matching, left: Box::new(left), right: Box::new(right) })
}
