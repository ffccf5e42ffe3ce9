document.querySelectorAll(".seqlab-quiz:not([data-ready])").forEach(function (quiz) {
  quiz.dataset.ready = "";
  var questions = [].slice.call(quiz.querySelectorAll("fieldset"));
  var score = quiz.querySelector(".score");
  function inputs(question) { return [].slice.call(question.querySelectorAll("input")); }
  function isRight(question) {
    return inputs(question).every(function (input) { return input.checked === input.hasAttribute("data-right"); });
  }
  function tally() {
    var tried = questions.some(function (question) { return inputs(question).some(function (i) { return i.checked; }); });
    score.hidden = !tried || questions.length === 1;
    score.textContent = questions.filter(isRight).length + " of " + questions.length + " questions right.";
  }
  quiz.addEventListener("change", function (event) {
    var feedback = event.target.parentNode.querySelector(".feedback");
    tally();
    quiz.querySelector(".status").innerHTML = event.target.checked
      ? feedback.innerHTML + (score.hidden ? "" : " " + score.innerHTML) : "";
  });
  tally();  // a browser that restores a form on reload leaves answers checked
});
