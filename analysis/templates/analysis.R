tolerance <- 1e-6

arguments <- commandArgs(trailingOnly = TRUE)
fast <- "--fast" %in% arguments  # leaves out the models beside the main numbers: they take long on many votes
arguments <- setdiff(arguments, "--fast")
script <- sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE))
folder <- if (length(script)) dirname(script[1]) else "."
read <- function(name) {
  read.csv(file.path(folder, name), colClasses = "character", na.strings = "", check.names = FALSE,
           encoding = "UTF-8", stringsAsFactors = FALSE)
}
votes <- read("tables/votes.csv")
if ("kind" %in% names(votes)) votes <- votes[votes$kind == "main", ]
numbers <- read("numbers.csv")
reported <- setNames(as.numeric(numbers$value), numbers$where)

found <- data.frame(where = character(), r = numeric(), reported = numeric(), agrees = logical())
compare <- function(where, value) {
  published <- unname(reported[where])
  agrees <- !is.na(published) && abs(value - published) <= tolerance * max(1, abs(published))
  found[nrow(found) + 1, ] <<- list(where, value, published, agrees)
  cat(sprintf("  %-58s %12.7f  reported %12.7f  %s\n", where, value, published, if (agrees) "same" else "DIFFERS"))
}
have <- function(package, what) {
  if (fast && package != "sandwich") return(FALSE)
  there <- requireNamespace(package, quietly = TRUE)
  if (!there) cat(sprintf("  (package %s is not installed: no %s)\n", package, what))
  there
}

# ---- Win rates: mean of wins (a tie one half), clusters of participants crossed with prompts -------------------------

trials_of <- function(focal, against) {
  left <- votes$left_condition == focal & votes$right_condition == against
  right <- votes$right_condition == focal & votes$left_condition == against
  t <- votes[left | right, ]
  t$focal_left <- t$left_condition == focal
  t$y <- ifelse(t$choice == "tie", 0.5, as.numeric((t$choice == "left") == t$focal_left))
  t
}

# The other person for whom an image was made: the opponent's, or the focal one's where that one is the stranger's.
source_of <- function(t) {
  if (!all(c("left_source_user", "right_source_user") %in% names(t))) return(NULL)
  opponent <- ifelse(t$focal_left, t$right_source_user, t$left_source_user)
  focal <- ifelse(t$focal_left, t$left_source_user, t$right_source_user)
  rater <- t$participant_id
  ifelse(!is.na(opponent) & opponent != rater, opponent, ifelse(!is.na(focal) & focal != rater, focal, rater))
}

clusters_of <- function(t) {
  factors <- list()
  if (new_people) factors$person <- t$participant_id
  if (new_prompts) factors$prompt <- t$prompt_id
  source <- source_of(t)
  if (new_people && !is.null(source)) {
    foreign <- source[source != t$participant_id]
    n_people <- length(unique(t$participant_id))
    # one person's images for more than twice an equal share of the trials: sources are clusters of their own
    if (length(foreign) && max(table(foreign)) / nrow(t) * n_people > 2) factors$source <- source
  }
  if (!length(factors)) factors$cell <- paste(t$participant_id, t$prompt_id, sep = "\r")
  factors
}

if (have("sandwich", "win rates")) {
  cat("Win rates, sandwich::vcovCL\n")
  for (k in seq_len(nrow(contrasts))) {
    name <- paste(contrasts$focal[k], contrasts$against[k], sep = ":")
    if (is.na(reported[sprintf("win_rate %s/estimate", name)])) {
      cat(sprintf("  (%s has no reported win rate)\n", name))
      next
    }
    t <- trials_of(contrasts$focal[k], contrasts$against[k])
    fit <- lm(y ~ 1, data = t)
    factors <- clusters_of(t)
    v <- function(groups) sandwich::vcovCL(fit, cluster = groups, type = "HC0")[1, 1]
    one_way <- vapply(factors, v, numeric(1))
    variance <- if (length(factors) > 1) max(v(as.data.frame(factors)), one_way) else one_way
    df <- min(vapply(factors, function(x) length(unique(x)), 1L)) - 1
    rate <- unname(coef(fit)); se <- sqrt(unname(variance)); q <- qt(0.5 + confidence / 2, df) * se
    if (rate >= 0.1 && rate <= 0.9 && q <= min(rate, 1 - rate)) {
      ends <- rate + c(-q, q)
    } else {
      ends <- plogis(qlogis(rate) + c(-1, 1) * q / (rate * (1 - rate)))
    }
    p <- 2 * pt(-abs((rate - 0.5) / se), df)
    values <- list(estimate = rate, se = se, df = df, ci_low = ends[1], ci_high = ends[2], p = p)
    for (what in names(values)) compare(sprintf("win_rate %s/%s", name, what), values[[what]])
    naive <- sqrt(mean(residuals(fit)^2) / nrow(t))
    compare(sprintf("win_rate %s/naive/se", name), naive)
  }
  claims <- sprintf("win_rate %s:%s/p", contrasts$focal, contrasts$against)
  if (all(claims %in% found$where)) {
    holm <- p.adjust(found$r[match(claims, found$where)], "holm")
    for (k in seq_along(holm)) {
      compare(sprintf("contrasts/contrasts[%s:%s]/p_holm", contrasts$focal[k], contrasts$against[k]), holm[k])
    }
  }
}

# ---- Ranking: Davidson's model of ties as a log-linear model (base R), two-way sandwich by hand ----------------------

compared <- votes[votes$left_condition != votes$right_condition, ]
conditions <- sort(unique(c(compared$left_condition, compared$right_condition)), method = "radix")
pair <- paste(compared$left_condition, compared$right_condition, sep = "\r")
pairs <- unique(compared[c("left_condition", "right_condition")])
labels <- paste(pairs$left_condition, pairs$right_condition, sep = "\r")
mirrored <- paste(pairs$right_condition, pairs$left_condition, sep = "\r")
choices <- if (any(compared$choice == "tie")) c("left", "right", "tie") else c("left", "right")
sign_of <- c(left = 0.5, right = -0.5, tie = 0)

if (!is.na(reported[sprintf("%s/log_likelihood", davidson_section)])) {
  cat("Ranking, Davidson's model by glm(family = poisson)\n")
  cells <- expand.grid(choice = choices, pair = labels, stringsAsFactors = FALSE)
  cells$count <- as.numeric(table(factor(pair, labels), factor(compared$choice, choices))[cbind(cells$pair, cells$choice)])
  fitted_to <- cells$count + if (half_wins) ifelse(cells$choice == "tie", 0, 0.5) else 0
  row <- match(cells$pair, labels)
  design <- sapply(conditions[-1], function(name) {
    ((pairs$left_condition[row] == name) - (pairs$right_condition[row] == name)) * sign_of[cells$choice]
  })
  colnames(design) <- conditions[-1]
  if (any(mirrored %in% labels)) design <- cbind(design, order = sign_of[cells$choice])
  if ("tie" %in% choices) design <- cbind(design, tie = as.numeric(cells$choice == "tie"))
  k <- ncol(design)
  block <- if (length(labels) > 1) model.matrix(~ 0 + factor(cells$pair, labels)) else matrix(1, nrow(cells), 1)
  fit <- suppressWarnings(glm.fit(cbind(design, block), fitted_to, family = poisson(),
                                  control = glm.control(epsilon = 1e-14, maxit = 200)))
  theta <- fit$coefficients[seq_len(k)]
  p <- fit$fitted.values / ave(fit$fitted.values, cells$pair, FUN = sum)
  centred <- design - apply(design * p, 2, function(x) ave(x, cells$pair, FUN = sum))
  total <- ave(fitted_to, cells$pair, FUN = sum)
  bread <- solve(crossprod(centred * sqrt(total * p)))
  at <- match(paste(pair, compared$choice), paste(cells$pair, cells$choice))
  scores <- centred[at, , drop = FALSE]
  meat <- function(groups) {
    sums <- rowsum(scores, groups)
    nrow(sums) / (nrow(sums) - 1) * crossprod(sums)
  }
  by <- list(person = compared$participant_id, prompt = compared$prompt_id)
  one_way <- lapply(by[c(new_people, new_prompts)], meat)
  by_cell <- meat(paste(compared$participant_id, compared$prompt_id, sep = "\r"))
  combined <- if (length(one_way) == 2) one_way[[1]] + one_way[[2]] - by_cell else if (length(one_way)) one_way[[1]] else by_cell
  e <- eigen(bread %*% combined %*% bread, symmetric = TRUE)
  covariance <- e$vectors %*% (pmax(e$values, 0) * t(e$vectors))
  variances <- c(list(diag(covariance)), lapply(one_way, function(m) diag(bread %*% m %*% bread)))
  se <- sqrt(do.call(pmax, variances))
  for (j in seq_along(conditions[-1])) {
    where <- sprintf("%s/conditions[%s]", davidson_section, conditions[j + 1])
    compare(paste0(where, "/log_strength"), unname(theta[j]))
    compare(paste0(where, "/se"), unname(se[j]))
  }
  if ("order" %in% colnames(design)) compare(sprintf("%s/order_effect", davidson_section), unname(theta["order"]))
  if ("tie" %in% choices) compare(sprintf("%s/tie_parameter", davidson_section), unname(exp(theta["tie"])))

  if (have("psychotools", "btmodel") && !half_wins) {
    cat("The same strengths without the order effect, psychotools::btmodel against the log-linear model\n")
    ids <- which(upper.tri(diag(length(conditions))), arr.ind = TRUE)  # 1:2, 1:3, 2:3, 1:4, ... as paircomp wants them
    low <- pmin(match(compared$left_condition, conditions), match(compared$right_condition, conditions))
    high <- pmax(match(compared$left_condition, conditions), match(compared$right_condition, conditions))
    chosen <- ifelse(compared$choice == "left", compared$left_condition, compared$right_condition)
    answers <- matrix(NA_integer_, nrow(compared), nrow(ids))
    column <- match(paste(low, high), paste(ids[, 1], ids[, 2]))
    answers[cbind(seq_len(nrow(compared)), column)] <-
      ifelse(compared$choice == "tie", 0L, ifelse(chosen == conditions[low], 1L, -1L))
    scale <- if ("tie" %in% choices) c(-1, 0, 1) else c(-1, 1)
    votes_of_pairs <- psychotools::paircomp(answers, labels = conditions, mscale = scale)
    worths <- coef(psychotools::btmodel(votes_of_pairs, ref = conditions[1]))[conditions[-1]]
    plain <- design[, colnames(design) != "order", drop = FALSE]
    again <- suppressWarnings(glm.fit(cbind(plain, block), fitted_to, family = poisson(), control = glm.control(epsilon = 1e-12)))
    for (name in conditions[-1]) {
      same <- abs(worths[[name]] - again$coefficients[[name]]) <= 1e-3
      cat(sprintf("  %-58s %12.7f  log-linear %10.7f  %s\n", name, worths[[name]], again$coefficients[[name]],
                  if (same) "same" else "DIFFERS"))
      found[nrow(found) + 1, ] <- list(paste0("psychotools/", name), worths[[name]], again$coefficients[[name]], same)
    }
  }
}

if (have("BradleyTerry2", "Bradley-Terry model without ties")) {
  cat("Strengths with ties dropped and the left side's advantage, BradleyTerry2::BTm (another model: not compared)\n")
  decided <- compared[compared$choice != "tie", ]
  side <- function(name, left) {
    data.frame(condition = factor(name, conditions), left = left)
  }
  model <- try(BradleyTerry2::BTm(
    as.numeric(decided$choice == "left"), side(decided$left_condition, 1), side(decided$right_condition, 0),
    ~ condition + left, id = "condition", refcat = conditions[1]), silent = TRUE)
  print(if (inherits(model, "try-error")) as.character(model) else summary(model)$coefficients)
}

# ---- Crossed logistic model of the planned contrasts ------------------------------------------------------------------

if (have("lme4", "crossed logistic model")) {
  cat("Log-odds of the focal condition among votes that are no ties, lme4::glmer (conditional on person and prompt)\n")
  planned <- do.call(rbind, lapply(seq_len(nrow(contrasts)), function(k) {
    t <- trials_of(contrasts$focal[k], contrasts$against[k])
    data.frame(contrast = rep(paste(contrasts$focal[k], "over", contrasts$against[k]), nrow(t)), y = t$y,
               side = ifelse(t$focal_left, 0.5, -0.5), person = t$participant_id, prompt = t$prompt_id)
  }))
  planned <- planned[planned$y != 0.5, ]
  planned$contrast <- factor(planned$contrast, unique(planned$contrast))
  several <- nlevels(planned$contrast) > 1
  formula <- if (several) y ~ 0 + contrast + side + (1 | person) + (1 | prompt) else y ~ 1 + side + (1 | person) + (1 | prompt)
  model <- lme4::glmer(formula, data = planned, family = binomial())
  print(summary(model)$coefficients)
  print(lme4::VarCorr(model))
  if (several && have("emmeans", "marginal means")) {
    means <- emmeans::emmeans(model, ~ contrast, at = list(side = 0))
    print(summary(means, infer = c(TRUE, TRUE), adjust = "holm", type = "response"))
  }
}

cat(sprintf("%d of %d numbers agree (those of the report to %g).\n", sum(found$agrees), nrow(found), tolerance))
if (length(arguments)) {
  rows <- paste(paste0('"', gsub('"', '""', found$where, fixed = TRUE), '"'), format(found$r, digits = 17, trim = TRUE),
                format(found$reported, digits = 17, trim = TRUE), found$agrees, sep = ",")
  out <- file(arguments[1], "wb")
  writeLines(enc2utf8(c("where,r,reported,agrees", rows)), out, useBytes = TRUE)  # UTF-8 whatever the locale
  close(out)
}
if (!all(found$agrees)) quit(status = 1)
