// Leaves a page whose session has ended, so that nothing about a client stays on the screen. It never extends the session.
(() => {
  const leave = (why) => {
    document.documentElement.replaceChildren();
    location.replace("/auth/sign-in?" + why + "=1&next=" + encodeURIComponent(location.pathname + location.search));
  };
  const look = async () => {
    try {
      const answer = await fetch("/auth/alive", { cache: "no-store", redirect: "manual" });
      if (answer.status === 401) leave("ended");
    } catch { /* the dashboard does not answer: Streamlit says so */ }
  };
  setInterval(look, 5000);
  addEventListener("visibilitychange", () => document.hidden || look());
  addEventListener("pageshow", (event) => event.persisted && look());
  addEventListener("click", async (event) => {
    const link = event.target instanceof Element && event.target.closest('a[href="/auth/sign-out"]');
    if (!link) return;
    event.preventDefault();
    event.stopPropagation();
    try { await fetch("/auth/sign-out", { method: "POST" }); } finally { document.documentElement.replaceChildren(); location.replace("/auth/sign-in"); }
  }, true);
})();
