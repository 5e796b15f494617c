// What the pages gain that wait for something: they go on by themselves. ECMAScript 5; its words are
// in the pages.
(function () {
  var page = document.querySelector("[data-state]"), code = document.getElementById("code");
  var opened = Date.now(), over;

  function data(of, name) {
    return of.getAttribute("data-" + name);
  }

  // The code is sent when its last digit is in. Not after a wrong one: whatever filled that in might
  // do so for ever.
  if (code && !code.hasAttribute("aria-invalid")) {
    code.setAttribute("aria-describedby", "auto");
    code.addEventListener("input", function () {
      if (code.value.replace(/\D/g, "").length == data(code, "digits"))
        code.form.querySelector("button").click();
    });
  }

  // Goes on when the server has another step for this device; typing is not interrupted.
  function look() {
    if (document.hidden) return;
    var ask = new XMLHttpRequest();
    ask.onload = function () {
      var state = /\sdata-state="([^"]*)/.exec(ask.responseText);
      if (ask.status > 499 || document.querySelector("[aria-busy]") || code && code.value) return;
      if (over || !state || state[1] != data(page, "state")) location.replace(data(page, "look"));
    };
    ask.open("GET", data(page, "look"));
    ask.send();
  }
  if (page) {
    document.addEventListener("visibilitychange", look);
    if (data(page, "every")) setInterval(look, data(page, "every") * 1000);
  }

  // What is left, every second; at the end what its line says then, or a look at the server.
  function count(left) {
    var line = left.parentNode, then = data(line, "then");
    var button = then && line.parentNode.querySelector("button");
    if (button) button.disabled = true;
    var timer = setInterval(function () {
      var s = Math.max(0, Math.ceil(data(left, "left") - (Date.now() - opened) / 1000));
      var h = s / 3600 | 0, m = s % 3600 / 60 | 0;
      var text = data(left, "units").split("|")[h ? m ? 0 : 3 : m ? 1 : 2];
      text = text.replace("{hours}", h).replace("{minutes}", m).replace("{seconds}", s);
      if (left.textContent != text) left.textContent = text;
      if (s) return;
      clearInterval(timer);
      if (button) {
        button.disabled = false;
        line.textContent = then;
      } else over = setTimeout(look, 1000);
    }, 1000);
  }
  [].forEach.call(document.querySelectorAll("[data-left]"), count);
})();
