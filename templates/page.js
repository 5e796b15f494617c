// What every page gains where scripts run; each works without. A second tap sends nothing. An answer
// that is lost does not lock the page. Pictures wait until a slow phone has painted the page without.
// ECMAScript 5, for the web views of old phones.
(function () {
  var sent;

  function ready() {
    if (sent) sent.removeAttribute("aria-busy");
    sent = null;
  }
  addEventListener("submit", function (event) {
    if (sent) return event.preventDefault();
    sent = event.target;
    sent.setAttribute("aria-busy", true);
    setTimeout(ready, 10000);
  });
  addEventListener("pageshow", ready);

  requestAnimationFrame(function () {
    setTimeout(function () {
      [].forEach.call(document.querySelectorAll("[data-src]"), function (place) {
        var image = new Image();
        image.alt = "";
        image.src = place.getAttribute("data-src");
        place.appendChild(image);
      });
    });
  });
})();
